package io.movinetedge.app.live

import android.annotation.SuppressLint
import android.graphics.ImageFormat
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.os.Looper
import android.view.Surface
import io.movinetedge.app.Trouble

private const val LEAST_SIDE = 480
private const val IMAGES = 2 // the newest one, and one that is being read

/** A camera's pictures: [size] as the sensor has them, which is turned by [sensor] degrees. */
data class Optics(
    val size: Side,
    val sensor: Int,
    val front: Boolean,
)

/**
 * A device of Camera2 that streams to the screen and to [seen]. For the main thread.
 *
 * @param texture where the preview goes.
 * @param reader the thread on which [seen] is told of every newest picture, which it does not keep.
 * @param adjust is told of the camera that is about to stream.
 */
class Camera(
    private val manager: CameraManager,
    private val texture: () -> SurfaceTexture?,
    private val reader: Handler,
    private val seen: (Image, Optics) -> Unit,
    private val adjust: (Optics) -> Unit,
) : CameraPort {
    /** Who decides. */
    lateinit var machine: CameraMachine

    private val main = Handler(Looper.getMainLooper())
    private var device: CameraDevice? = null
    private var images: ImageReader? = null
    private var preview: Surface? = null

    /** Whether there are a front camera and another one. */
    val hasBoth: Boolean
        get() = ids().map { facing(it) == CameraCharacteristics.LENS_FACING_FRONT }.toSet().size == 2

    @SuppressLint("MissingPermission") // whoever resumes the machine has asked; taken back, it throws
    override fun open(
        attempt: Int,
        front: Boolean,
    ) {
        try {
            val id = choose(front) ?: return machine.failed(attempt, Trouble.NO_CAMERA)
            manager.openCamera(id, Opening(attempt), main)
        } catch (error: CameraAccessException) {
            machine.failed(attempt, troubleOf(error))
        } catch (_: SecurityException) {
            machine.failed(attempt, Trouble.CAMERA_REFUSED)
        } catch (_: IllegalArgumentException) {
            // it was unplugged just now
            machine.failed(attempt, Trouble.NO_CAMERA)
        }
    }

    override fun close() {
        device?.close() // and its session with it
        device = null
        // On the thread that may be reading a picture of it.
        images?.let { reader.post(it::close) }
        images = null
        preview?.release()
        preview = null
    }

    private fun configure(
        device: CameraDevice,
        attempt: Int,
    ) {
        this.device = device
        try {
            val optics = optics(device.id) ?: return machine.failed(attempt, Trouble.CAMERA_BROKEN)
            val onto = texture() ?: return machine.failed(attempt, Trouble.CAMERA_BROKEN)
            onto.setDefaultBufferSize(optics.size.width, optics.size.height)
            adjust(optics)
            val targets = listOf(Surface(onto).also { preview = it }, imagesOf(optics).surface)
            @Suppress("DEPRECATION") // what takes its place came with Android 9
            device.createCaptureSession(targets, Configuring(attempt, device, targets), main)
        } catch (error: CameraAccessException) {
            machine.failed(attempt, troubleOf(error))
        } catch (_: IllegalStateException) {
            // closed from outside just now
            machine.failed(attempt, Trouble.CAMERA_TAKEN)
        }
    }

    private fun imagesOf(optics: Optics): ImageReader {
        val (width, height) = optics.size
        val made = ImageReader.newInstance(width, height, ImageFormat.YUV_420_888, IMAGES)
        val newest =
            ImageReader.OnImageAvailableListener {
                it.acquireLatestImage()?.use { image -> seen(image, optics) }
            }
        made.setOnImageAvailableListener(newest, reader)
        images = made
        return made
    }

    private fun ids(): List<String> =
        try {
            manager.cameraIdList.toList()
        } catch (_: CameraAccessException) {
            emptyList()
        }

    private fun choose(front: Boolean): String? {
        val ids = ids()
        return ids.find { (facing(it) == CameraCharacteristics.LENS_FACING_FRONT) == front }
            ?: ids.firstOrNull()
    }

    private fun facing(id: String): Int? =
        manager.getCameraCharacteristics(id).get(CameraCharacteristics.LENS_FACING)

    private fun optics(id: String): Optics? {
        val about = manager.getCameraCharacteristics(id)
        val streams = about.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP)
        val sizes = streams?.getOutputSizes(ImageFormat.YUV_420_888).orEmpty()
        val size = chooseSize(sizes.map { Side(it.width, it.height) }, LEAST_SIDE) ?: return null
        return Optics(
            size,
            about.get(CameraCharacteristics.SENSOR_ORIENTATION) ?: 0,
            facing(id) == CameraCharacteristics.LENS_FACING_FRONT,
        )
    }

    private inner class Opening(
        private val attempt: Int,
    ) : CameraDevice.StateCallback() {
        override fun onOpened(opened: CameraDevice) {
            if (machine.opened(attempt)) configure(opened, attempt) else opened.close()
        }

        override fun onDisconnected(gone: CameraDevice) {
            gone.close()
            machine.failed(attempt, Trouble.CAMERA_TAKEN)
        }

        override fun onError(
            broken: CameraDevice,
            error: Int,
        ) {
            broken.close()
            val isTaken = error in TAKEN_ERRORS
            machine.failed(attempt, if (isTaken) Trouble.CAMERA_TAKEN else Trouble.CAMERA_BROKEN)
        }
    }

    private inner class Configuring(
        private val attempt: Int,
        private val device: CameraDevice,
        private val targets: List<Surface>,
    ) : CameraCaptureSession.StateCallback() {
        override fun onConfigured(session: CameraCaptureSession) {
            if (device !== this@Camera.device) return // closed meanwhile
            try {
                val request = device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
                targets.forEach(request::addTarget)
                session.setRepeatingRequest(request.build(), null, main)
                machine.streaming(attempt)
            } catch (error: CameraAccessException) {
                machine.failed(attempt, troubleOf(error))
            } catch (_: IllegalStateException) {
                machine.failed(attempt, Trouble.CAMERA_TAKEN)
            }
        }

        override fun onConfigureFailed(session: CameraCaptureSession) {
            machine.failed(attempt, Trouble.CAMERA_BROKEN)
        }
    }
}

private val TAKEN_ERRORS =
    setOf(
        CameraDevice.StateCallback.ERROR_CAMERA_IN_USE,
        CameraDevice.StateCallback.ERROR_MAX_CAMERAS_IN_USE,
        CameraDevice.StateCallback.ERROR_CAMERA_DISABLED,
    )

private val TAKEN_REASONS =
    setOf(
        CameraAccessException.CAMERA_IN_USE,
        CameraAccessException.MAX_CAMERAS_IN_USE,
        CameraAccessException.CAMERA_DISABLED,
        CameraAccessException.CAMERA_DISCONNECTED,
    )

private fun troubleOf(error: CameraAccessException) =
    if (error.reason in TAKEN_REASONS) Trouble.CAMERA_TAKEN else Trouble.CAMERA_BROKEN

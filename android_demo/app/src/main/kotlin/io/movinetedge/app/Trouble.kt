package io.movinetedge.app

import io.movinetedge.BadInput
import io.movinetedge.CheckFailed
import io.movinetedge.Fault
import java.io.IOException

/** What can be done about a trouble, with the text of its button. */
enum class Way(
    val label: Int,
) {
    ALLOW_CAMERA(R.string.way_allow_camera),
    OPEN_SETTINGS(R.string.way_open_settings),
    USE_VIDEO(R.string.way_use_video),
    TRY_AGAIN(R.string.way_try_again),
    CHOOSE_BUNDLE(R.string.way_choose_bundle),
    USE_DEFAULT(R.string.way_use_default),
    USE_CPU(R.string.way_use_cpu),
    OTHER_PRECISION(R.string.way_other_precision),
    USE_ONNX_RUNTIME(R.string.way_use_onnxruntime),
    USE_TFLITE(R.string.way_use_tflite),
    CHOOSE_VIDEO(R.string.way_choose_video),
    FREE_SPACE(R.string.way_free_space),
}

/** What can go wrong, each with its sentence and the ways on, the most useful one first. */
enum class Trouble(
    val sentence: Int,
    vararg val ways: Way,
) {
    CAMERA_REFUSED(R.string.trouble_camera_refused, Way.ALLOW_CAMERA, Way.USE_VIDEO),
    CAMERA_BLOCKED(R.string.trouble_camera_blocked, Way.OPEN_SETTINGS, Way.USE_VIDEO),
    NO_CAMERA(R.string.trouble_no_camera, Way.USE_VIDEO),
    CAMERA_TAKEN(R.string.trouble_camera_taken, Way.TRY_AGAIN, Way.USE_VIDEO),
    CAMERA_BROKEN(R.string.trouble_camera_broken, Way.TRY_AGAIN, Way.USE_VIDEO),
    BUNDLE_ABSENT(R.string.trouble_bundle_absent, Way.CHOOSE_BUNDLE, Way.USE_DEFAULT),
    BUNDLE_DAMAGED(R.string.trouble_bundle_damaged, Way.CHOOSE_BUNDLE, Way.USE_DEFAULT),
    BUNDLE_CHANGED(R.string.trouble_bundle_changed, Way.CHOOSE_BUNDLE, Way.USE_DEFAULT),
    BUNDLE_NEWER(R.string.trouble_bundle_newer, Way.CHOOSE_BUNDLE, Way.USE_DEFAULT),
    NO_SPACE(R.string.trouble_no_space, Way.FREE_SPACE, Way.TRY_AGAIN),
    NO_FILE(
        R.string.trouble_no_file,
        Way.OTHER_PRECISION,
        Way.CHOOSE_BUNDLE,
        Way.USE_TFLITE,
        Way.USE_ONNX_RUNTIME,
    ),
    NO_DELEGATE(R.string.trouble_no_delegate, Way.USE_CPU),
    REFUSED(R.string.trouble_refused, Way.USE_CPU, Way.CHOOSE_BUNDLE),
    WRONG_NUMBERS(R.string.trouble_wrong_numbers, Way.USE_CPU, Way.CHOOSE_BUNDLE),
    VIDEO_UNREADABLE(R.string.trouble_video_unreadable, Way.CHOOSE_VIDEO),
    OTHER(R.string.trouble_other, Way.TRY_AGAIN, Way.CHOOSE_BUNDLE),
}

/** What kind of trouble an [error] is. */
fun troubleOf(error: Throwable): Trouble =
    when (error) {
        is CheckFailed -> Trouble.WRONG_NUMBERS
        is BadInput -> troubleOf(error.fault)
        is IOException -> Trouble.BUNDLE_DAMAGED
        else -> Trouble.OTHER
    }

private fun troubleOf(fault: Fault): Trouble =
    when (fault) {
        Fault.REQUEST -> Trouble.OTHER
        Fault.ABSENT -> Trouble.BUNDLE_ABSENT
        Fault.DAMAGED -> Trouble.BUNDLE_DAMAGED
        Fault.CHANGED -> Trouble.BUNDLE_CHANGED
        Fault.NEWER -> Trouble.BUNDLE_NEWER
        Fault.NO_SPACE -> Trouble.NO_SPACE
        Fault.NO_FILE -> Trouble.NO_FILE
        Fault.NO_DELEGATE -> Trouble.NO_DELEGATE
        Fault.REFUSED -> Trouble.REFUSED
    }

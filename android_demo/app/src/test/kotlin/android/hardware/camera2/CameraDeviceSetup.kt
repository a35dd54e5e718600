@file:Suppress("ktlint:standard:filename") // a nested class cannot be a file's name

package android.hardware.camera2

/** Of API 35: Robolectric's stand-in for cameras names it, and the framework that is tested with lacks it. */
@Suppress("ktlint:standard:class-naming", "unused")
abstract class `CameraDevice$CameraDeviceSetup`

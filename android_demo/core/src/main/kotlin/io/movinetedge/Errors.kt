package io.movinetedge

/** What kind of thing is wrong, for hosts that say it in their users' words and offer a way on. */
public enum class Fault {
    /** A wrong request, or anything without a kind of its own. */
    REQUEST,

    /** There is no bundle. */
    ABSENT,

    /** It is no bundle, or one that cannot be read. */
    DAMAGED,

    /** A file is not the one that the manifest tells of. */
    CHANGED,

    /** It was written by a newer version. */
    NEWER,

    /** There is no room to unpack it. */
    NO_SPACE,

    /** It has no file of that format and precision. */
    NO_FILE,

    /** The engine has no such delegate here. */
    NO_DELEGATE,

    /** The engine, or its delegate, cannot take the model. */
    REFUSED,
}

/** Wrong use or unusable input. The message is one sentence that names the fix. */
public class BadInput(
    message: String,
    cause: Throwable? = null,
    public val fault: Fault = Fault.REQUEST,
) : Exception(message, cause)

/** A check ran and did not hold. */
public class CheckFailed(
    message: String,
) : Exception(message)

/** The first line of what an engine or parser says, or [otherwise]. */
internal fun Throwable.firstLine(otherwise: String = "no reason given"): String =
    message
        ?.trim()
        ?.lineSequence()
        ?.firstOrNull()
        ?.takeIf { it.isNotEmpty() } ?: otherwise

package io.movinetedge

/** Wrong use or unusable input. The message is one sentence that names the fix. */
public class BadInput(
    message: String,
    cause: Throwable? = null,
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

package io.movinetedge.app

import android.app.Activity
import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.TextView
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.robolectric.Shadows.shadowOf
import java.time.Duration

private const val PATIENCE_MS = 240_000
private const val TICK_MS = 50L

/** Let the main thread and all others work until [holds]. */
fun waitUntil(
    what: String,
    holds: () -> Boolean,
) {
    val end = System.currentTimeMillis() + PATIENCE_MS
    while (true) {
        // Other threads' clocks go on with this one's.
        shadowOf(Looper.getMainLooper()).idleFor(Duration.ofMillis(TICK_MS))
        if (holds()) return
        if (System.currentTimeMillis() > end) fail("waited in vain until $what")
        Thread.sleep(5)
    }
}

/** All views below, this one included. */
fun View.all(): List<View> =
    listOf(this) +
        if (this is ViewGroup) (0 until childCount).flatMap { getChildAt(it).all() } else emptyList()

/**
 * Whether nothing up to the screen's content hides it. Robolectric does not show the window of a screen
 * that was made anew, so that `isShown` would say no there.
 */
val View.isThere: Boolean
    get() =
        generateSequence(this) { it.parent as? View }
            .takeWhile { it.id != android.R.id.content }
            .all { it.visibility == View.VISIBLE }

val Activity.root: View get() = findViewById(android.R.id.content)

/** The texts that can be seen. */
val Activity.texts: List<String>
    get() =
        root
            .all()
            .filterIsInstance<TextView>()
            .filter { it.isThere && it.text.isNotEmpty() }
            .map { it.text.toString() }

fun Activity.text(id: Int): String = findViewById<TextView>(id).text.toString()

/** Press the button with this text. */
fun Activity.press(label: Int) {
    val wanted = getString(label)
    val shown = root.all().filterIsInstance<TextView>().filter { it.isThere && it.isClickable }
    val button = shown.firstOrNull { it.text.toString() == wanted }
    assertTrue("there is no button '$wanted' among $texts", button != null)
    button?.performClick()
    shadowOf(Looper.getMainLooper()).idle()
}

/** That the screen says what went wrong, and offers these ways on and no others. */
fun Activity.assertSays(
    sentence: Int,
    vararg ways: Way,
) {
    val panel = findViewById<View>(R.id.trouble)
    assertTrue("nothing is said: $texts", panel.isThere)
    assertEquals(getString(sentence), text(R.id.trouble_sentence))
    val buttons = findViewById<ViewGroup>(R.id.trouble_ways).all().filterIsInstance<Button>()
    assertEquals(ways.map { getString(it.label) }, buttons.map { it.text.toString() })
}

package io.movinetedge.app.live

import io.movinetedge.app.Trouble
import io.movinetedge.app.live.CameraMachine.State
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import kotlin.random.Random

/** A camera service: grants devices late, and counts those that are held. */
private class Service : CameraPort {
    lateinit var machine: CameraMachine
    val asked = ArrayList<Int>()
    val fronts = ArrayList<Boolean>()
    var held = 0
    var isBroken = false

    override fun open(
        attempt: Int,
        front: Boolean,
    ) {
        assertEquals("opened while one is held", 0, held)
        fronts += front
        if (isBroken) machine.failed(attempt, Trouble.CAMERA_BROKEN) else asked += attempt
    }

    override fun close() {
        held = 0
    }

    /** The service opens a device for a request; one that nobody wants is closed at once. */
    fun grant(attempt: Int) {
        asked -= attempt
        if (machine.opened(attempt)) held++
    }
}

/** The camera is opened when it is needed and never leaks. */
class CameraMachineTest {
    private val service = Service()
    private val states = ArrayList<State>()
    private val machine = CameraMachine(service) { states += it }.also { service.machine = it }

    private fun stream() {
        machine.surface(true)
        machine.resume(true)
        val attempt = service.asked.single()
        service.grant(attempt)
        machine.streaming(attempt)
        assertEquals(State.STREAMING, machine.state)
    }

    @Test
    fun `it streams once there are surface, permission and screen`() {
        stream()
        assertEquals(listOf(State.OPENING, State.CONFIGURING, State.STREAMING), states)
    }

    @Test
    fun `without permission nothing is opened`() {
        machine.surface(true)
        machine.resume(false)
        assertEquals(emptyList<Int>(), service.asked)
        assertEquals(State.CLOSED, machine.state)
    }

    @Test
    fun `a device that opens after the pause is not kept`() {
        machine.surface(true)
        machine.resume(true)
        machine.pause()
        val late = service.asked.single()
        assertFalse(machine.opened(late))
        assertEquals(State.CLOSED, machine.state)
        machine.resume(true)
        assertFalse("an earlier attempt's device", machine.opened(late))
        assertTrue(machine.opened(service.asked.last()))
    }

    @Test
    fun `what is taken away is said, and can be tried again`() {
        stream()
        machine.failed(1, Trouble.CAMERA_TAKEN)
        assertEquals(Trouble.CAMERA_TAKEN, machine.trouble)
        assertEquals(0, service.held)
        machine.retry()
        assertEquals(State.OPENING, machine.state)
        assertNull(machine.trouble)
    }

    @Test
    fun `what fails at once is said`() {
        service.isBroken = true
        machine.surface(true)
        machine.resume(true)
        assertEquals(State.FAILED, machine.state)
        assertEquals(Trouble.CAMERA_BROKEN, machine.trouble)
        machine.pause()
        service.isBroken = false
        machine.resume(true)
        assertEquals("coming back is a new attempt", State.OPENING, machine.state)
    }

    @Test
    fun `turning around closes one and opens the other`() {
        stream()
        machine.turnAround()
        assertEquals(listOf(false, true), service.fronts)
        assertEquals(0, service.held)
        assertEquals(State.OPENING, machine.state)
    }

    @Test
    fun `whatever happens, at most one is held, and none when it is not wanted`() {
        for (seed in 0 until 300) {
            val random = Random(seed)
            val service = Service()
            val machine = CameraMachine(service) {}.also { service.machine = it }
            var isResumed = false
            var hasSurface = false
            var isPermitted = true
            repeat(200) {
                service.isBroken = random.nextInt(10) == 0
                when (random.nextInt(9)) {
                    0 -> {
                        isResumed = true
                        isPermitted = random.nextInt(4) > 0
                        machine.resume(isPermitted)
                    }

                    1 -> {
                        isResumed = false
                        machine.pause()
                    }

                    2 -> {
                        hasSurface = random.nextBoolean()
                        machine.surface(hasSurface)
                    }

                    3, 4 -> {
                        service.asked.randomOrNull(random)?.let(service::grant)
                    }

                    5 -> {
                        machine.streaming(random.nextInt(60))
                    }

                    6 -> {
                        machine.failed(random.nextInt(60), Trouble.CAMERA_TAKEN)
                    }

                    7 -> {
                        machine.turnAround()
                    }

                    else -> {
                        machine.retry()
                    }
                }
                assertTrue("seed $seed", service.held <= 1)
                val isWanted = isResumed && hasSurface && isPermitted
                if (!isWanted) assertEquals("seed $seed", State.CLOSED, machine.state)
                if (!isWanted || machine.state == State.FAILED) assertEquals("seed $seed", 0, service.held)
                if (isWanted) assertTrue("seed $seed", machine.state != State.CLOSED)
                assertEquals("seed $seed", machine.state == State.FAILED, machine.trouble != null)
            }
        }
    }
}

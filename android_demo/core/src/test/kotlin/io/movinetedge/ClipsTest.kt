package io.movinetedge

import io.movinetedge.bundle.Bundle
import io.movinetedge.bundle.readNpz
import io.movinetedge.check.rows
import io.movinetedge.engine.OrtEngines
import io.movinetedge.preprocess.ColourMatrix
import io.movinetedge.preprocess.Plane
import io.movinetedge.preprocess.YuvFrame
import io.movinetedge.runtime.Stream
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.api.Test
import java.nio.ByteBuffer
import kotlin.math.abs

/** Real weights on real clips: the same first class as in Python, frame by frame. */
class ClipsTest {
    @Test
    fun `the same top-1 as in Python`() {
        assumeTrue(FOLDER.exists(), "the real clips are not at hand")
        val clips = Json.decodeFromString<List<Clip>>(FOLDER.resolve("clips.json").readText())
        assertTrue(clips.size >= 5)
        Bundle(FOLDER.resolve("bundle")).use { bundle ->
            Stream(bundle, OrtEngines).use { stream ->
                for (clip in clips) {
                    stream.reset()
                    compare(clip, stream, bundle.labels)
                }
            }
        }
    }

    private fun compare(
        clip: Clip,
        stream: Stream,
        labels: List<String>,
    ) {
        val arrays = readNpz(FOLDER.resolve("${clip.name}.npz"))
        val wanted = arrays.getValue("logits").rows()
        val (y, u, v) = listOf("y", "u", "v").map { ByteBuffer.wrap(arrays.getValue(it).bytes()) }
        val halfHeight = (clip.height + 1) / 2
        val halfWidth = (clip.width + 1) / 2
        var worst = 0f
        wanted.forEachIndexed { step, row ->
            val frame =
                YuvFrame(
                    clip.height,
                    clip.width,
                    Plane(part(y, step, clip.height * clip.width), clip.width, 1),
                    Plane(part(u, step, halfHeight * halfWidth), halfWidth, 1),
                    Plane(part(v, step, halfHeight * halfWidth), halfWidth, 1),
                    fullRange = clip.full,
                    matrix = clip.matrix,
                )
            val logits = stream.step(frame)!!.logits
            worst = maxOf(worst, row.indices.maxOf { abs(row[it] - logits[it]) })
            assertEquals(labels[best(row)], labels[best(logits)], "${clip.name}, frame $step")
        }
        println("${clip.name}: logits at most $worst apart")
    }

    private fun part(
        all: ByteBuffer,
        number: Int,
        size: Int,
    ): ByteBuffer {
        all.position(number * size)
        return all.slice()
    }

    private fun best(row: FloatArray) = row.indices.maxBy { row[it] }

    @Serializable
    private data class Clip(
        val name: String,
        val height: Int,
        val width: Int,
        val matrix: ColourMatrix,
        val full: Boolean,
    )

    private companion object {
        val FOLDER = Fixtures.folder.resolve("clips")
    }
}

package io.movinetedge.check

import io.movinetedge.runtime.Answer
import io.movinetedge.runtime.Stream

/** An answer that is kept: [logits] [classes] after frame [frame], and what was decided there. */
public class Kept(
    public val frame: Int,
    public val logits: FloatArray,
    public val action: Int,
    public val scores: FloatArray?,
)

/** What a stream answered to the golden stream, and in the end. */
public class Replayed(
    public val answers: List<Kept>,
    public val final: Kept?,
)

/** Replay the golden stream; the stream begins and ends anew. */
public fun replay(
    stream: Stream,
    golden: Golden,
): Replayed {
    stream.reset()
    val frame = golden.frame()
    val answers = ArrayList<Kept>()
    for (step in 0 until golden.steps) {
        golden.show(frame, step)
        stream.step(frame)?.let { answers += kept(it, stream) }
    }
    val final = stream.finish()?.let { kept(it, stream) }
    stream.reset()
    return Replayed(answers, final)
}

private fun kept(
    answer: Answer,
    stream: Stream,
) = Kept(answer.frame, answer.logits.copyOf(), answer.action, stream.scores?.copyOf())

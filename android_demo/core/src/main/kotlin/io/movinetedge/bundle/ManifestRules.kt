package io.movinetedge.bundle

private val PRECISIONS = setOf("fp32", "fp16", "int8-weights", "dynamic", "int8")
private val PROFILES = setOf("cpu", "nnapi", "gpu", "coreml")
private const val MAX_RANK = 5

/**
 * What must be true of a manifest beyond its fields.
 *
 * @throws IllegalArgumentException something is not; the message says what.
 */
internal fun Manifest.check() {
    require(task == "classification") { "there is no task '$task'" }
    require(classes >= 1) { "there are no classes" }
    preprocessing.check()
    graphs.forEach(Graph::check)
    require(graphs.map { it.name }.isDistinct()) { "two graphs have one name" }
    plan.check()
    checkAnswer()
    checkChoice()
    require(reference == null || graphs.any { it.name == reference }) {
        "the reference '$reference' is not there"
    }
    graphs.forEach(::checkFrames)
    listOfNotNull(labels, golden).forEach { it.path.requireInside() }
}

/** @throws IllegalArgumentException a path that leads out of the folder that it is relative to. */
internal fun String.requireInside() {
    val leaves = startsWith("/") || contains("\\") || isEmpty() || split("/").contains("..")
    require(!leaves) { "'$this' points outside the bundle" }
}

private fun Preprocessing.check() {
    require(height >= 1 && width >= 1) { "frames of $height x $width have no pixels" }
    require(frameRate > 0) { "the frame rate is not above 0" }
    require(cropFraction > 0 && cropFraction <= 1) { "the crop fraction is not in (0, 1]" }
    require(colour == "RGB") { "there is no colour order '$colour'" }
    require(valueRange == "0..1") { "there is no value range '$valueRange'" }
}

private fun Graph.check() {
    require(frames >= 1) { "graph '$name' takes no frames" }
    val known = states.map { it.name }.toSet()
    require(states.all { it.past >= 0 }) { "a state of graph '$name' has less than no past" }
    for (file in files) {
        file.check()
        for (tensor in file.inputs + file.outputs) {
            require((tensor.state != null) == (tensor.role == Role.STATE)) {
                "tensor '${tensor.name}' and its role do not agree"
            }
            require(tensor.state == null || tensor.state in known) {
                "tensor '${tensor.name}' is of no state of the graph"
            }
        }
    }
}

private fun ModelFile.check() {
    path.requireInside()
    require(precision in PRECISIONS) { "$path has an unknown precision '$precision'" }
    require(profile in PROFILES) { "$path has an unknown profile '$profile'" }
    for (tensors in listOf(inputs, outputs)) {
        require(tensors.map { it.name }.isDistinct()) { "$path names a tensor twice" }
        for (tensor in tensors) {
            require(tensor.shape.size <= MAX_RANK) { "tensor '${tensor.name}' has too many axes" }
            require(tensor.shape.all { it >= 1 }) { "tensor '${tensor.name}' holds nothing" }
            require((tensor.age ?: 0) >= 0) { "tensor '${tensor.name}' is of the future" }
            require((tensor.quantization?.scale ?: 1.0) > 0) { "tensor '${tensor.name}' has no scale" }
        }
    }
}

private fun Plan.check() {
    require(delay >= 0) { "the delay is below 0" }
    for (step in steps) {
        require(step.every >= 1 && step.offset in 0 until step.every) {
            "graph '${step.graph}' would never run (offset ${step.offset})"
        }
    }
    val actions = choice?.actions.orEmpty().associateBy { it.name }
    choice?.let { choice ->
        require(choice.actions.size >= 2) { "there is nothing to choose from" }
        require(actions.size == choice.actions.size) { "two actions have one name" }
        require(choice.actions.all { it.skip >= 0 && it.cost >= 0 }) { "an action is below 0" }
        val first = steps.firstOrNull()
        require(first?.graph == choice.graph && first.`when` == null && first.every == 1) {
            "graph '${choice.graph}' does not decide first"
        }
    }
    for (step in steps) {
        val awaited = step.`when` ?: continue
        val action = actions[awaited]
        require(action != null) {
            "graph '${step.graph}' waits for an action '$awaited' that is not there"
        }
        require(action.skip == 0) { "graph '${step.graph}' waits for '$awaited', which skips" }
    }
}

private fun Manifest.checkAnswer() {
    val byName = graphs.associateBy { it.name }
    val files =
        plan.steps.flatMap { step ->
            val graph = byName[step.graph]
            require(graph != null) { "the plan names a graph '${step.graph}' that is not there" }
            graph.files
        }
    require(files.any { file -> file.outputs.any { it.name == plan.answer } }) {
        "no graph of the plan has the answer '${plan.answer}'"
    }
}

private fun Manifest.checkChoice() {
    val choice = plan.choice
    val newer = choice != null || plan.combine == Combine.LOOKS || preprocessing.rescale != null
    require(schemaVersion > 1 || !newer) { "a choice between scales needs schema version 2" }
    if (choice == null) return
    val graph = graph(choice.graph)
    for (file in graph.files) {
        val shapes = file.outputs.filter { it.name == choice.output }.map { it.shape }
        require(shapes == listOf(listOf(1, choice.actions.size))) {
            "${file.path} does not score ${choice.actions.size} actions in '${choice.output}'"
        }
    }
    for (name in choice.goingOn) {
        require(graph.states.any { it.name == name }) { "'${choice.graph}' has no state '$name'" }
    }
}

private fun Manifest.checkFrames(graph: Graph) {
    val shape = listOf(graph.frames, preprocessing.height, preprocessing.width, 3)
    for (file in graph.files) {
        for (tensor in file.inputs.filter { it.role == Role.FRAME }) {
            val smaller = preprocessing.rescale != null && tensor.shape.size == shape.size
            val fits = smaller && tensor.shape.zip(shape).all { (own, whole) -> own <= whole }
            require(fits || tensor.shape == shape) { "${file.path} takes frames of ${tensor.shape}" }
        }
    }
}

private fun List<String>.isDistinct() = toSet().size == size

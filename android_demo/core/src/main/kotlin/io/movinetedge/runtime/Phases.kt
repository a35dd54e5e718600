package io.movinetedge.runtime

/** Where each of several rings stands; a key of maps that can be looked up without a new object. */
internal class Phases(
    private val places: IntArray,
) {
    operator fun set(
        ring: Int,
        place: Int,
    ) {
        places[ring] = place
    }

    /** One that stays as it is. */
    fun copy() = Phases(places.copyOf())

    override fun equals(other: Any?) = other is Phases && places.contentEquals(other.places)

    override fun hashCode() = places.contentHashCode()
}

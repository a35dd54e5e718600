package io.movinetedge.app.ui

import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Spinner
import io.movinetedge.app.R

/** A drop-down list of [T]s; [chosen] is told of what the user takes, not of what is shown. */
class Choice<T>(
    private val spinner: Spinner,
    private val name: (T) -> String,
    private val chosen: (T) -> Unit,
) : AdapterView.OnItemSelectedListener {
    private var items: List<T> = emptyList()
    private var shown: T? = null

    init {
        spinner.onItemSelectedListener = this
        spinner.isSaveEnabled = false // what is chosen is kept elsewhere
    }

    fun show(
        items: List<T>,
        selected: T,
    ) {
        if (items != this.items) {
            this.items = items
            val names = ArrayAdapter(spinner.context, R.layout.choice, items.map(name))
            names.setDropDownViewResource(R.layout.choice_open)
            spinner.adapter = names
        }
        shown = selected
        spinner.setSelection(items.indexOf(selected).coerceAtLeast(0))
    }

    override fun onItemSelected(
        parent: AdapterView<*>?,
        view: View?,
        position: Int,
        id: Long,
    ) {
        val item = items.getOrNull(position) ?: return
        if (item == shown) return
        shown = item
        chosen(item)
    }

    override fun onNothingSelected(parent: AdapterView<*>?) = Unit
}

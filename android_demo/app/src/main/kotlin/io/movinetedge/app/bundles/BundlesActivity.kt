package io.movinetedge.app.bundles

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.provider.OpenableColumns
import android.view.View
import android.view.ViewGroup
import android.widget.RadioButton
import android.widget.TextView
import io.movinetedge.BadInput
import io.movinetedge.app.R
import io.movinetedge.app.Way
import io.movinetedge.app.app
import io.movinetedge.app.ui.Screen
import io.movinetedge.app.ui.Tab
import io.movinetedge.app.ui.Task
import io.movinetedge.app.ui.showOrHide
import java.io.FileNotFoundException

private const val CHOOSE = 1

/** What is being done with a bundle, or became of it. */
sealed interface Done {
    data object Nothing : Done

    data object Working : Done

    class Imported(
        val id: String,
    ) : Done

    class Read(
        val id: String?,
        val about: About,
    ) : Done

    class Failed(
        val error: Exception,
    ) : Done
}

/** The bundles that there are, and how others come in. */
class BundlesActivity : Screen(Tab.BUNDLES, R.layout.bundles) {
    private lateinit var task: Task<Done>
    private lateinit var rows: ViewGroup

    override fun onCreate(savedInstanceState: android.os.Bundle?) {
        super.onCreate(savedInstanceState)
        @Suppress("UNCHECKED_CAST")
        task = lastNonConfigurationInstance as? Task<Done> ?: Task(Done.Nothing)
        rows = findViewById(R.id.rows)
        findViewById<View>(R.id.choose_bundle).setOnClickListener { choose() }
        findViewById<TextView>(R.id.pushing).text = getString(R.string.pushing, packageName)
    }

    override fun onStart() {
        super.onStart()
        task.listener = ::show
        if (!task.isRunning && trouble == null) restart()
    }

    override fun onStop() {
        task.listener = null
        super.onStop()
    }

    @Deprecated("its replacement is not among the framework's classes")
    override fun onRetainNonConfigurationInstance(): Any = task

    @Deprecated("its replacement is not among the framework's classes")
    override fun onActivityResult(
        requestCode: Int,
        resultCode: Int,
        data: Intent?,
    ) {
        val file = data?.data
        if (requestCode == CHOOSE && resultCode == Activity.RESULT_OK && file != null) import(file)
    }

    /** Read what the chosen bundle is. */
    override fun restart() {
        super.restart()
        showRows()
        val id = app.settings.bundle
        val store = app.bundles
        val scratch = cacheDir
        perform { Done.Read(id, aboutBundle(store.path(id), scratch)) }
    }

    override fun go(way: Way) {
        if (way == Way.CHOOSE_BUNDLE) choose() else super.go(way)
    }

    /** Keep a copy of the zip at [file] and choose it. */
    fun import(file: Uri) {
        clearTrouble()
        val store = app.bundles
        val resolver = applicationContext.contentResolver
        perform {
            val name = nameOf(file)
            Done.Imported(
                store.import(name) { resolver.openInputStream(file) ?: throw FileNotFoundException(name) },
            )
        }
    }

    private fun nameOf(file: Uri): String {
        val columns = arrayOf(OpenableColumns.DISPLAY_NAME)
        val told =
            contentResolver.query(file, columns, null, null, null)?.use { found ->
                if (found.moveToFirst()) found.getString(0) else null
            }
        return told ?: file.lastPathSegment.orEmpty()
    }

    private fun perform(work: () -> Done) {
        task.start { say ->
            say(Done.Working)
            say(
                try {
                    work()
                } catch (error: BadInput) {
                    Done.Failed(error)
                } catch (error: SecurityException) {
                    // a document that may not be read any more
                    Done.Failed(BadInput("the document may not be read", error))
                },
            )
        }
    }

    private fun show(done: Done) {
        findViewById<View>(R.id.working).visibility =
            if (done is Done.Working) View.VISIBLE else View.GONE
        findViewById<TextView>(R.id.about).showOrHide((done as? Done.Read)?.about?.let(::described))
        when (done) {
            is Done.Failed -> {
                show(done.error)
            }

            is Done.Imported -> {
                app.choose(done.id)
                restart()
            }

            else -> {
                showRows()
            }
        }
    }

    private fun described(about: About) =
        getString(
            R.string.about_bundle,
            about.name,
            resources.getQuantityString(R.plurals.classes, about.classes, about.classes),
            about.width,
            about.height,
            about.frameRate,
            about.files.joinToString(),
        )

    private fun showRows() {
        rows.removeAllViews()
        val entries = app.bundles.list()
        val chosen = app.settings.bundle ?: entries.firstOrNull()?.id
        for (entry in entries) rows.addView(row(entry, entry.id == chosen))
        findViewById<View>(R.id.no_bundles).visibility = if (entries.isEmpty()) View.VISIBLE else View.GONE
    }

    private fun row(
        entry: Entry,
        isChosen: Boolean,
    ): View {
        val view = layoutInflater.inflate(R.layout.bundle_row, rows, false)
        val button = view.findViewById<RadioButton>(R.id.bundle_name)
        button.text = entry.name
        button.isChecked = isChosen
        button.setOnClickListener { choose(entry) }
        view.findViewById<TextView>(R.id.bundle_origin).setText(
            when (entry.origin) {
                Origin.BUILT_IN -> R.string.origin_built_in
                Origin.IMPORTED -> R.string.origin_imported
                Origin.PUSHED -> R.string.origin_pushed
            },
        )
        val delete = view.findViewById<View>(R.id.bundle_delete)
        delete.visibility = if (entry.origin == Origin.BUILT_IN) View.GONE else View.VISIBLE
        delete.contentDescription = getString(R.string.delete_spoken, entry.name)
        delete.setOnClickListener { delete(entry) }
        return view
    }

    private fun choose(entry: Entry) {
        app.choose(entry.id)
        restart()
    }

    private fun delete(entry: Entry) {
        app.bundles.delete(entry.id)
        if (app.settings.bundle == entry.id) app.choose(null)
        restart()
    }

    private fun choose() {
        // Not all providers know that a zip is one.
        val types = arrayOf("application/zip", "application/x-zip-compressed", "application/octet-stream")
        val ask =
            Intent(Intent.ACTION_OPEN_DOCUMENT)
                .addCategory(Intent.CATEGORY_OPENABLE)
                .setType("*/*")
                .putExtra(Intent.EXTRA_MIME_TYPES, types)
        @Suppress("DEPRECATION") // its replacement is not among the framework's classes
        startActivityForResult(ask, CHOOSE)
    }
}

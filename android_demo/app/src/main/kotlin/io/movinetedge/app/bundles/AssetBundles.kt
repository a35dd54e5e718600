package io.movinetedge.app.bundles

import android.content.Context
import java.io.InputStream

private const val FOLDER = "bundles"

/** Zips in the app's assets; an update of the app brings new ones. */
class AssetBundles(
    private val context: Context,
) : BuiltIn {
    override val version: Long
        get() = context.packageManager.getPackageInfo(context.packageName, 0).lastUpdateTime

    override fun names(): List<String> =
        context.assets
            .list(FOLDER)
            .orEmpty()
            .filter { it.endsWith(".zip") }
            .sorted()

    override fun open(name: String): InputStream = context.assets.open("$FOLDER/$name")
}

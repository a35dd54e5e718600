package io.movinetedge.app.ui

import android.app.Activity
import android.os.Bundle
import android.widget.TextView
import io.movinetedge.app.R

/** The app's first screen. */
public class MainActivity : Activity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(TextView(this).apply { setText(R.string.app_name) })
    }
}

"""Tests of installer.chart: rendering is real, by the Helm library and against the helm program."""

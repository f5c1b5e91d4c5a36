"""No way back by accident: the newest release that a place was given, which no older one replaces in silence."""

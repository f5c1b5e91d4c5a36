"""The commands for the way: pages to print, media, parity, patches."""

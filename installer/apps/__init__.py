"""Applications: what a bundle installs. Data is a profile; what data cannot say is a driver in a folder here."""

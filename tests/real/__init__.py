"""batchrun against servers that nobody here wrote. `install.sh` installs them; servers.py says how each is run."""

"""NUTS on a generic compiled density of generalised mixed models, group effects whitened at every theta."""

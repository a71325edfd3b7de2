"""Meshes, logical axes, what lies where, and several processes."""

"""What one research step does: typed specs, verified results, bodies in processes of their own.

Nothing here imports from `flows`, and importing this package loads nothing heavy.
"""

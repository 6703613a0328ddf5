"""Cello: recurrent cells for audio, written once as equations and compared honestly.

The data's way through the package: ``audio`` (sound → labelled clips) → ``features`` (clips → frames) →
``cells`` (equations) → ``compiler`` (equations → a scan over time) → ``models`` → ``training`` (one run) →
``study`` (many runs, one question) → ``report``.
"""

__version__ = "0.1.0"

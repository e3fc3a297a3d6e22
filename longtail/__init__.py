"""Long-tailed multi-label text classification: data, losses, thresholds and the gate.

The package is free of Prefect, MLflow and Great Expectations, so that anyone can import it.
"""

__version__ = "0.1.0"

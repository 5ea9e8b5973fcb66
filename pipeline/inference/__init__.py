"""Audio in, probabilities out: exactly what a registered model carries.

Imports nothing outside itself, and nothing heavy: a version that is loaded later runs this code as it was.
"""

import os

# Since 1.29 ONNX Runtime reports models and hardware to its makers; it reads this when it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

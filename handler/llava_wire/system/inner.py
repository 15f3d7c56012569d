"""The names by which the front, the worker behind TorchServe and whoever stops a server know each other's words.

None is part of what clients may send: the front takes them out of requests.
"""

KEY_HEADER = "x-llava-gaze-key"
"""The name of a request's key, for the worker's log; over gRPC an input of this name."""
PROBE_HEADER = "x-llava-gaze-probe"
"""Asks the worker whether it is there, when it says "1"; over gRPC an input of this name."""
FORM_HEADER = "x-llava-gaze-form"
"""The content type of a form, whose bytes pass TorchServe as `FORM_TYPE`."""
FORM_TYPE = "application/x-llava-gaze-form"
DUTY_VARIABLE = "LLAVA_GAZE_DUTY"
"""The environment variable with the folder of the following files; without it a worker is always on duty."""
BUSY, PAST, BEAT = ".busy", ".past", ".beat"
"""Files named by a worker's pid: it runs a batch; it has refused a request and finished that batch; it lives."""
DRAIN_FILE = "drain.json"
"""There too: the server is about to stop, and so many requests are waiting."""

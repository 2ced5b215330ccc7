PLAIN = {
    "crop_padding": 0,
    "flip": False,
    "resized_crop": None,
    "jitter": None,
    "policy": "none",
    "blur": 0.0,
    "erase": 0.0,
}
"""No augmentation at all."""

DRAWN = {
    "crop_padding": 1,
    "flip": True,
    "resized_crop": {"scale": [0.5, 1.0], "ratio": [0.75, 1.33]},
    "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "policy": "trivial-augment",
    "blur": 0.5,
    "erase": 0.5,
}
"""Every random change at once."""

"""Networks that P3M-Net is compared with, trained and saved like it."""

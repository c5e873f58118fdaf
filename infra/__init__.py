"""What labwright stands on: locked environments, and later images, pools and machines."""

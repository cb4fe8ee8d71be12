"""A task or a network applied to many images, batch by batch over all devices."""

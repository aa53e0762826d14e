"""Image registries, asked by their own API: names, manifests, layers by range."""

"""GLM-5.2 model classes, composed of SGLang's public layers."""

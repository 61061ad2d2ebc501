"""What is built on featviz's public names alone: each app one file, with `import featviz as fv` and nothing deeper."""

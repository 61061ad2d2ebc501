"""What is built on featviz's public names alone: `import featviz as fv`, and one another."""

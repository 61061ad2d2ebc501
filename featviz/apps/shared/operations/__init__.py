"""Operations of a network: functions of PyTorch by name, connections by weights, contributions to logits."""

import torch

# The tensors of most tests are tiny: threads would only wait for each other.
torch.set_num_threads(1)

from flax import linen as linen
from flax import struct as struct

// LATENTD_HOST_DEVICE: marks plain functions that kernels call too.
#pragma once

#ifdef __CUDACC__
#define LATENTD_HOST_DEVICE __host__ __device__
#else
#define LATENTD_HOST_DEVICE
#endif

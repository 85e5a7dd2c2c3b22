// What our own matrix kernels over integers of 8 bits ask of the tensor cores, beside cuda/tensor_core.cuh.
#pragma once

#include <cstdint>

#include "cuda/tensor_core.cuh"

namespace osprey::cuda {

// Sums of 16 x 8, 32 deep: lane 4 g + t holds of a bytes 4t..4t+3 of rows g and g + 8, then the same 16 bytes
// further on; of b, whose rows are the columns of the product, the same of row g; of d rows g and g + 8,
// columns 2t and 2t + 1.
template <class T>
__device__ void multiply_add(int (&d)[4], const unsigned (&a)[4], unsigned b_low, unsigned b_high);
template <>
__device__ inline void multiply_add<std::int8_t>(int (&d)[4], const unsigned (&a)[4], unsigned b_low,
                                                 unsigned b_high) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}
template <>
__device__ inline void multiply_add<std::uint8_t>(int (&d)[4], const unsigned (&a)[4], unsigned b_low,
                                                  unsigned b_high) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
}

// Four tiles of 8 rows of 16 bytes from shared memory: lane 8 i + r gives the address of row r of tile i, and
// lane 4 g + t gets bytes 4t..4t+3 of row g of each.
__device__ inline void load_tiles(unsigned (&to)[4], const void* row) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

// 8 bytes into shared memory, or zeros where `there` is false; both addresses at multiples of 8.
__device__ inline void copy_8_async(void* to, const void* from, bool there) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(address), "l"(from), "r"(there ? 8 : 0)
               : "memory");
}

}  // namespace osprey::cuda

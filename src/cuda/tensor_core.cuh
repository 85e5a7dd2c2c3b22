// What our own matrix kernels ask of the tensor cores and of asynchronous copies.
#pragma once

#include <cstdint>

#include "cuda/numbers.cuh"

namespace osprey::cuda {

// d += a * b for a tile of 16 x 8 sums, 16 deep. Lane 4 g + t holds rows g and g + 8 of a, columns 2t, 2t+1
// and 2t+8, 2t+9; the same rows of b, whose column is g; columns 2t, 2t+1 of d.
template <class T>
__device__ void multiply_add(float (&d)[4], const unsigned (&a)[4], const uint2& b);
template <>
__device__ inline void multiply_add<__half>(float (&d)[4], const unsigned (&a)[4], const uint2& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}
template <>
__device__ inline void multiply_add<__nv_bfloat16>(float (&d)[4], const unsigned (&a)[4], const uint2& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}

// 16 bytes into shared memory, or zeros where `there` is false; both addresses at multiples of 16.
__device__ inline void copy_async(void* to, const void* from, bool there) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most `kPending` of the groups of copies committed last are still under way.
template <int kPending>
__device__ void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

template <class T>
__device__ unsigned packed(float low, float high);
template <>
__device__ inline unsigned packed<__half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return reinterpret_cast<const unsigned&>(pair);
}
template <>
__device__ inline unsigned packed<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const unsigned&>(pair);
}

}  // namespace osprey::cuda

// What only Hopper (sm_90a) has: copies of whole tiles by the tensor memory engine, barriers that count their
// bytes, clusters of blocks that share what is copied, and products of whole warpgroups (PTX ISA, "wgmma").
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace osprey::hopper {

__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// --- Barriers in shared memory
// ------------------------------------------------------------------------------

__device__ inline void init_barrier(std::uint64_t* barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}
// What was initialised is seen by the cluster's other blocks and by the copy engine.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Arrives, and holds the phase open until `bytes` more have been copied.
__device__ inline void expect_bytes(std::uint64_t* barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}

// Arrives at the same barrier of block `rank` of the cluster. Only for those who have waited for their reads:
// an order of the cluster's memory beyond that would be a fence, which costs more than a step of products.
__device__ inline void arrive_at(std::uint64_t* barrier, unsigned rank) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}

// Of this block.
__device__ inline void arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Until the phase of that parity has ended.
__device__ inline void await(std::uint64_t* barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// --- Clusters
// -------------------------------------------------------------------------------------------------

__device__ inline unsigned cluster_rank() {
  unsigned rank = 0;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void sync_cluster() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}

// --- The tensor memory engine
// --------------------------------------------------------------------------------

// Columns of pixels, `channel` on: from the pixel at (n, y, x) of the map's bounding box on, each shifted by
// the tap (dy, dx).
__device__ inline void copy_pixels(void* to, const CUtensorMap* map, std::uint64_t* barrier, int channel,
                                   int x, int y, int n, unsigned dx, unsigned dy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(channel), "r"(x), "r"(y), "r"(n),
      "h"(static_cast<std::uint16_t>(dx)), "h"(static_cast<std::uint16_t>(dy))
      : "memory");
}

// A box of a matrix, to the same place in every block of the cluster that `blocks` has a bit for.
__device__ inline void copy_box(void* to, const CUtensorMap* map, std::uint64_t* barrier, int column, int row,
                                unsigned blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(column), "r"(row), "h"(static_cast<std::uint16_t>(blocks))
      : "memory");
}

// Boxes of tensors, to this block alone.
__device__ inline void copy_block(void* to, const CUtensorMap* map, std::uint64_t* barrier, int x, int y,
                                  int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}
__device__ inline void copy_block(void* to, const CUtensorMap* map, std::uint64_t* barrier, int channel,
                                  int x, int y, int n) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(channel), "r"(x), "r"(y), "r"(n)
      : "memory");
}

// A box back into its tensor. What threads wrote into it they publish first.
__device__ inline void publish_stores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ inline void store_block(const CUtensorMap* map, const void* from, int channel, int x, int y,
                                   int n) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
      "r"(shared_address(from)), "r"(channel), "r"(x), "r"(y), "r"(n)
      : "memory");
}
__device__ inline void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until all but so many of the thread's groups have been read.
template <int kPending>
__device__ void await_stores() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

__device__ inline void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// --- Products of warpgroups
// ----------------------------------------------------------------------------------

// Of rows of 128 bytes that the tensor memory engine has swizzled by 128 bytes, beginning at a multiple of
// 1024: the start and the bytes from one group of 8 rows to the next, both in units of 16; in the top bits
// the swizzle.
__device__ inline std::uint64_t matrix_descriptor(const void* rows, int group_bytes = 1024) {
  return (std::uint64_t{1} << 62) | (static_cast<std::uint64_t>(group_bytes >> 4) << 32) |
         (std::uint64_t{1} << 16) | ((shared_address(rows) & 0x3ffffu) >> 4);
}
inline constexpr int kProductBytes = 32;  // of a row, a product's depth
inline constexpr std::uint64_t kDescriptorStep = kProductBytes >> 4;

__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ void await_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// d = a b^T, added to d unless `fresh`: 64 rows of a, kColumns rows of b, 32 bytes deep: 16 halves, summed in
// f32, or 32 integers, a's of T and b's signed, summed in i32. Warp w has rows 16 w to 16 w + 15; lane 4 g +
// t of it has of row g columns 8 j + 2 t and + 1 in d[4 j], d[4 j + 1], and of row g + 8 in d[4 j + 2], d[4 j
// + 3].
template <class T, int kColumns>
struct WarpgroupProduct;

// Operands of the instruction: the sums by number, then both matrices and the predicate.
#define OSPREY_SUMS_4(c, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define OSPREY_SUMS_8(c, i) OSPREY_SUMS_4(c, i), OSPREY_SUMS_4(c, i + 4)
#define OSPREY_SUMS_24(c, i) OSPREY_SUMS_8(c, i), OSPREY_SUMS_8(c, i + 8), OSPREY_SUMS_8(c, i + 16)
#define OSPREY_SUMS_32(c, i) OSPREY_SUMS_24(c, i), OSPREY_SUMS_8(c, i + 24)
#define OSPREY_SUMS_64(c, i) OSPREY_SUMS_32(c, i), OSPREY_SUMS_32(c, i + 32)
#define OSPREY_ALL_16(c) OSPREY_SUMS_8(c, 0)
#define OSPREY_ALL_48(c) OSPREY_SUMS_24(c, 0)
#define OSPREY_ALL_64(c) OSPREY_SUMS_32(c, 0)
#define OSPREY_ALL_128(c) OSPREY_SUMS_64(c, 0)
#define OSPREY_ALL_192(c) OSPREY_SUMS_64(c, 0), OSPREY_SUMS_32(c, 64)
#define OSPREY_ALL_240(c) OSPREY_ALL_192(c), OSPREY_SUMS_24(c, 96)
#define OSPREY_ALL_256(c) OSPREY_SUMS_64(c, 0), OSPREY_SUMS_64(c, 64)
#define OSPREY_NAMES_16 "%0,%1,%2,%3,%4,%5,%6,%7"
#define OSPREY_NAMES_48 OSPREY_NAMES_16 ",%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23"
#define OSPREY_NAMES_64 OSPREY_NAMES_48 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define OSPREY_NAMES_128                                                                              \
  OSPREY_NAMES_64                                                                                     \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55," \
  "%56,%57,%58,%59,%60,%61,%62,%63"
#define OSPREY_NAMES_192                                                                              \
  OSPREY_NAMES_128                                                                                    \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87," \
  "%88,%89,%90,%91,%92,%93,%94,%95"
#define OSPREY_NAMES_240                                                                                   \
  OSPREY_NAMES_192                                                                                         \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116," \
  "%117,%118,%119"
#define OSPREY_NAMES_256 OSPREY_NAMES_240 ",%120,%121,%122,%123,%124,%125,%126,%127"
#define OSPREY_FLOAT(v) "+f"(v)
#define OSPREY_INT(v) "+r"(v)
#define OSPREY_PRODUCT_OF(TYPE, SUM, OPERAND, TYPES, TAIL, COLUMNS, A, B, FRESH)                      \
  template <>                                                                                         \
  struct WarpgroupProduct<TYPE, COLUMNS> {                                                            \
    static __device__ void add(SUM (&d)[COLUMNS / 2], std::uint64_t a, std::uint64_t b, bool fresh) { \
      asm volatile("{\n.reg .pred more;\nsetp.eq.b32 more, " FRESH                                    \
                   ", 0;\n"                                                                           \
                   "wgmma.mma_async.sync.aligned.m64n" #COLUMNS TYPES " {" OSPREY_NAMES_##COLUMNS     \
                   "}, " A ", " B ", more" TAIL ";\n}"                                                \
                   : OSPREY_ALL_##COLUMNS(OPERAND)                                                    \
                   : "l"(a), "l"(b), "r"(static_cast<int>(fresh)));                                   \
    }                                                                                                 \
  };
#define OSPREY_HALF_PRODUCT(COLUMNS, A, B, FRESH)                                                           \
  OSPREY_PRODUCT_OF(__half, float, OSPREY_FLOAT, "k16.f32.f16.f16", ", 1, 1, 0, 0", COLUMNS, A, B, FRESH)   \
  OSPREY_PRODUCT_OF(__nv_bfloat16, float, OSPREY_FLOAT, "k16.f32.bf16.bf16", ", 1, 1, 0, 0", COLUMNS, A, B, \
                    FRESH)
#define OSPREY_INTEGER_PRODUCT(COLUMNS, A, B, FRESH)                                          \
  OSPREY_PRODUCT_OF(std::uint8_t, int, OSPREY_INT, "k32.s32.u8.s8", "", COLUMNS, A, B, FRESH) \
  OSPREY_PRODUCT_OF(std::int8_t, int, OSPREY_INT, "k32.s32.s8.s8", "", COLUMNS, A, B, FRESH)

OSPREY_HALF_PRODUCT(16, "%8", "%9", "%10")
OSPREY_HALF_PRODUCT(48, "%24", "%25", "%26")
OSPREY_HALF_PRODUCT(64, "%32", "%33", "%34")
OSPREY_HALF_PRODUCT(128, "%64", "%65", "%66")
OSPREY_HALF_PRODUCT(192, "%96", "%97", "%98")
OSPREY_HALF_PRODUCT(240, "%120", "%121", "%122")
OSPREY_HALF_PRODUCT(256, "%128", "%129", "%130")
OSPREY_INTEGER_PRODUCT(16, "%8", "%9", "%10")
OSPREY_INTEGER_PRODUCT(48, "%24", "%25", "%26")
OSPREY_INTEGER_PRODUCT(64, "%32", "%33", "%34")
OSPREY_INTEGER_PRODUCT(128, "%64", "%65", "%66")
OSPREY_INTEGER_PRODUCT(256, "%128", "%129", "%130")

#undef OSPREY_INTEGER_PRODUCT
#undef OSPREY_HALF_PRODUCT
#undef OSPREY_PRODUCT_OF
#undef OSPREY_INT
#undef OSPREY_FLOAT
#undef OSPREY_NAMES_256
#undef OSPREY_NAMES_240
#undef OSPREY_NAMES_192
#undef OSPREY_NAMES_128
#undef OSPREY_NAMES_64
#undef OSPREY_NAMES_48
#undef OSPREY_NAMES_16
#undef OSPREY_ALL_256
#undef OSPREY_ALL_240
#undef OSPREY_ALL_192
#undef OSPREY_ALL_128
#undef OSPREY_ALL_64
#undef OSPREY_ALL_48
#undef OSPREY_ALL_16
#undef OSPREY_SUMS_64
#undef OSPREY_SUMS_32
#undef OSPREY_SUMS_24
#undef OSPREY_SUMS_8
#undef OSPREY_SUMS_4

// Keeps the compiler from moving sums while the tensor cores have them.
template <class T, int kSums>
__device__ void pin(T (&d)[kSums]) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    if constexpr (std::is_same_v<T, float>)
      asm volatile("" : "+f"(d[i])::"memory");
    else
      asm volatile("" : "+r"(d[i])::"memory");
  }
}

// The registers of each thread of the calling warpgroup from here on.
template <int kRegisters>
__device__ void give_up_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace osprey::hopper

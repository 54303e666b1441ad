// Attention rollout (Abnar & Zuidema 2020) of all blocks, one thread block an image: the row vector r of the
// tokens that the classifier reads goes through the head means A from the last block to the first,
// r ← r · A + r, and each row that is passed is written with the sum 1.
//
// A thread reads eight columns of every SPLITS-th row, those of the next block before r is known.
//
// grid: (batch); block: SPLITS · CHUNKS threads.

#define CHUNKS ((TOKENS + 7) / 8)
#define MEAN_STRIDE (CHUNKS * 8)
#define SPLITS (CHUNKS > 256 ? 4 : 1024 / CHUNKS)
#define THREADS (SPLITS * CHUNKS)
// Rows that a thread holds in registers at once.
#define HELD ((TOKENS + SPLITS - 1) / SPLITS < 6 ? (TOKENS + SPLITS - 1) / SPLITS : 6)

// Of each block, [batch, groups, queries, MEAN_STRIDE]: `last_groups` and `read` for the last, `groups` and TOKENS
// for the others.
struct Means {
  const u16 *of_block[LAYERS];
};

// by_start [batch, LAYERS, TOKENS]: row k is the product that starts at block k.
extern "C" __global__ void __launch_bounds__(THREADS)
    rollout(Means means, float *__restrict__ by_start, int groups, int last_groups, int read) {
  __shared__ float row[MEAN_STRIDE], parts[SPLITS][MEAN_STRIDE + 4];
  __shared__ float warp_sums[32];
  int chunk = threadIdx.x % CHUNKS, split = threadIdx.x / CHUNKS, image = blockIdx.x;
  uint4 held[HELD];

  auto matrix_rows = [&](int layer) { return layer == LAYERS - 1 ? last_groups * read : groups * TOKENS; };
  auto matrix = [&](int layer) { return means.of_block[layer] + (u64)image * matrix_rows(layer) * MEAN_STRIDE + chunk * 8; };
  auto hold = [&](int layer) {
    const u16 *from = matrix(layer);
    int rows = matrix_rows(layer);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
      int at = split + i * SPLITS;
      held[i] = at < rows ? *(const uint4 *)(from + (u64)at * MEAN_STRIDE) : make_uint4(0, 0, 0, 0);
    }
  };

  hold(LAYERS - 1);
  for (int layer = LAYERS - 1; layer >= 0; layer--) {
    bool last = layer == LAYERS - 1;
    int of_group = last ? read : TOKENS, rows = matrix_rows(layer);
    float sums[8] = {};
    auto add = [&](uint4 value, int at) {
      // Rows of the other head groups come one group after the other.
      float weight = at >= rows ? 0.f : last ? 1.f : row[at % of_group];
      u32 pairs[4] = {value.x, value.y, value.z, value.w};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        sums[2 * i] += weight * low_half(pairs[i]);
        sums[2 * i + 1] += weight * high_half(pairs[i]);
      }
    };
#pragma unroll
    for (int i = 0; i < HELD; i++) add(held[i], split + i * SPLITS);
    const u16 *from = matrix(layer);
#pragma unroll 2
    for (int at = split + HELD * SPLITS; at < rows; at += SPLITS) add(*(const uint4 *)(from + (u64)at * MEAN_STRIDE), at);
    if (layer > 0) hold(layer - 1);
#pragma unroll
    for (int i = 0; i < 8; i += 4)
      *(float4 *)&parts[split][chunk * 8 + i] = make_float4(sums[i], sums[i + 1], sums[i + 2], sums[i + 3]);
    __syncthreads();
    for (int column = threadIdx.x; column < (MEAN_STRIDE + 31) / 32 * 32; column += THREADS) {
      float total = 0.f;
      if (column < TOKENS) {
        total = last ? (column < read ? 1.f : 0.f) : row[column];
#pragma unroll 4
        for (int i = 0; i < SPLITS; i++) total += parts[i][column];
      }
      if (column < MEAN_STRIDE) row[column] = total;
      for (int offset = 16; offset > 0; offset /= 2) total += __shfl_xor_sync(~0u, total, offset);
      if (column % 32 == 0) warp_sums[column / 32] = total;
    }
    __syncthreads();
    for (int column = threadIdx.x; column < TOKENS; column += THREADS) {
      float total = 0.f;
      for (int i = 0; i < (MEAN_STRIDE + 31) / 32; i++) total += warp_sums[i];
      by_start[((u64)image * LAYERS + layer) * TOKENS + column] = row[column] / total;
    }
    // Until the next barrier `row` and `warp_sums` are only read, and `parts` is only written.
  }
}

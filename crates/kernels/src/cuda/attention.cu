// Attention of one block: values, the mean over the heads of the softmax matrices, and the class token's row
// of each head, in one pass over queries and keys.
//
// Compiled for one network: TOKENS, HEADS, HEAD_DIM. Chosen for one card: ROW_WARPS · KEY_WARPS warps of a
// thread block take ROW_WARPS · 16 queries of one image through HEADS / gridDim.y heads, one after the
// other; the keys of a query are divided among KEY_WARPS warps. All scores of a query stay in registers,
// so that the softmax is exact and each probability is there, normalised, when the mean over the heads
// needs it. STAGES = 2 loads the next head's keys and values meanwhile.
//
// The attention scale is part of the queries' weights. The keys' bias shifts all scores of a query alike,
// which the softmax takes out again; the values' bias passes through it, since a row adds up to one.
//
// grid: (ceil(queries / rows of a block), head groups, batch)

#define ROWS (ROW_WARPS * 16)
#define THREADS (ROW_WARPS * KEY_WARPS * 32)
#define KEY_TILES ((TOKENS + 15) / 16)
#define KEYS (KEY_TILES * 16)
// A warp has this many tiles of 16 keys, or one fewer.
#define WARP_TILES ((KEY_TILES + KEY_WARPS - 1) / KEY_WARPS)
#define DIM_TILES (HEAD_DIM / 16)
#define CHUNKS (HEAD_DIM / 8)
#define WIDTH (HEADS * HEAD_DIM)
// Rows in shared memory are 16 bytes longer than they need to be: eight of them then lie in different banks.
#define STRIDE (HEAD_DIM + 8)
// Rows of the mean begin at multiples of 16 bytes, filled up with zeros.
#define MEAN_STRIDE ((TOKENS + 7) / 8 * 8)
// A score that no key has; finite, so that differences of two of them are numbers.
#define MASKED -1e30f

struct Shared {
  u16 keys[STAGES][KEYS * STRIDE];
  u16 values[STAGES][KEYS * STRIDE];
  u16 queries[STAGES][ROWS * STRIDE];
  u16 biases[STAGES][2][HEAD_DIM];
  // Largest score and sum of exponentials of each query, by the warp that saw them.
  float2 partial_softmax[ROW_WARPS][KEY_WARPS][16];
#if KEY_WARPS > 1
  float4 partial_values[ROW_WARPS][KEY_WARPS][HEAD_DIM / 8][32];
#endif
};

__device__ __forceinline__ void load_head(Shared &shared, int stage, const u16 *qk, const u16 *v, const u16 *query_bias,
                                          const u16 *value_bias, int first_row, int queries, int head) {
  int offset = head * HEAD_DIM;
  for (int i = threadIdx.x; i < KEYS * CHUNKS; i += THREADS) {
    int token = i / CHUNKS, at = (i % CHUNKS) * 8;
    bool valid = token < TOKENS;
    int from = valid ? token : 0;
    copy_16(&shared.keys[stage][token * STRIDE + at], qk + (u32)(from * 2 * WIDTH + WIDTH + offset + at), valid);
    copy_16(&shared.values[stage][token * STRIDE + at], v + (u32)(from * WIDTH + offset + at), valid);
  }
  for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
    int row = i / CHUNKS, at = (i % CHUNKS) * 8;
    bool valid = first_row + row < queries;
    int from = valid ? first_row + row : 0;
    copy_16(&shared.queries[stage][row * STRIDE + at], qk + (u32)(from * 2 * WIDTH + offset + at), valid);
  }
  if (threadIdx.x < 2 * CHUNKS) {
    int at = threadIdx.x % CHUNKS * 8, of_values = threadIdx.x / CHUNKS;
    copy_16(&shared.biases[stage][of_values][at], (of_values ? value_bias : query_bias) + offset + at, true);
  }
  commit_copies();
}

__device__ __forceinline__ void row_barrier(int row_warp) {
  asm volatile("bar.sync %0, %1;" ::"r"(1 + row_warp), "n"(KEY_WARPS * 32) : "memory");
}

// Scores of 16 queries and the 16 keys of a tile.
__device__ __forceinline__ void score_tile(float (&s)[2][4], const u32 (&q)[DIM_TILES][4], const u16 *keys, int lane) {
  u32 k[DIM_TILES][4];
#pragma unroll
  for (int d = 0; d < DIM_TILES; d++) load_matrices(k[d], keys + (lane / 16 * 8 + lane % 8) * STRIDE + d * 16 + lane / 8 % 2 * 8);
#pragma unroll
  for (int d = 0; d < DIM_TILES; d++) {
    multiply_tile(s[0], q[d], k[d][0], k[d][1]);
    multiply_tile(s[1], q[d], k[d][2], k[d][3]);
  }
}

// Adds 16 probabilities of each query times the values of their keys.
__device__ __forceinline__ void mix_tile(float (&o)[HEAD_DIM / 8][4], const float (&s)[2][4], const u16 *values, int lane) {
  u32 p[4] = {pack_halves(s[0][0], s[0][1]), pack_halves(s[0][2], s[0][3]), pack_halves(s[1][0], s[1][1]),
              pack_halves(s[1][2], s[1][3])};
  u32 b[DIM_TILES][4];
#pragma unroll
  for (int d = 0; d < DIM_TILES; d++) load_matrices_transposed(b[d], values + lane % 16 * STRIDE + d * 16 + lane / 16 * 8);
#pragma unroll
  for (int d = 0; d < DIM_TILES; d++) {
    multiply_tile(o[2 * d], p, b[d][0], b[d][1]);
    multiply_tile(o[2 * d + 1], p, b[d][2], b[d][3]);
  }
}

// qk [batch, TOKENS, 2 · WIDTH]: queries, then keys; v [batch, TOKENS, WIDTH]; biases [WIDTH].
// mixed [batch, queries, WIDTH]; mean [batch, gridDim.y, queries, MEAN_STRIDE], to be added up over the second
// axis; class_rows [batch, HEADS, TOKENS], float32. With maps = 0 neither mean nor class_rows is written.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention(const u16 *__restrict__ qk_all, const u16 *__restrict__ v_all, const u16 *__restrict__ query_bias,
              const u16 *__restrict__ value_bias, u16 *__restrict__ mixed, u16 *__restrict__ mean_out,
              float *__restrict__ class_rows, int queries, int maps) {
  extern __shared__ __align__(16) char memory[];
  Shared &shared = *(Shared *)memory;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int row_warp = warp / KEY_WARPS, key_warp = warp % KEY_WARPS;
  int g = lane / 4, t = lane % 4;
  int first_row = blockIdx.x * ROWS, image = blockIdx.z;
  int heads_each = HEADS / gridDim.y, first_head = blockIdx.y * heads_each;
  int first_tile = key_warp * KEY_TILES / KEY_WARPS;
  bool full = (key_warp + 1) * KEY_TILES / KEY_WARPS - first_tile == WARP_TILES;
  // Warps whose queries are all beyond the end only help to load.
  bool active = first_row + row_warp * 16 < queries;
  bool of_class_token = first_row + row_warp == 0 && g == 0;
  const u16 *qk = qk_all + (u64)image * TOKENS * 2 * WIDTH, *v = v_all + (u64)image * TOKENS * WIDTH;

  float mean[WARP_TILES][2][4];
#pragma unroll
  for (int i = 0; i < WARP_TILES; i++)
#pragma unroll
    for (int j = 0; j < 8; j++) mean[i][j / 4][j % 4] = 0.f;

  if (STAGES > 1) load_head(shared, 0, qk, v, query_bias, value_bias, first_row, queries, first_head);
  for (int n = 0; n < heads_each; n++) {
    int head = first_head + n, stage = n % STAGES;
    if (STAGES == 1) {
      __syncthreads();
      load_head(shared, 0, qk, v, query_bias, value_bias, first_row, queries, head);
    }
    wait_for_copies();
    __syncthreads();
    if (STAGES > 1 && n + 1 < heads_each)
      load_head(shared, (n + 1) % STAGES, qk, v, query_bias, value_bias, first_row, queries, head + 1);
    if (!active) continue;
    const u16 *keys = &shared.keys[stage][first_tile * 16 * STRIDE];
    const u16 *values = &shared.values[stage][first_tile * 16 * STRIDE];

    u32 q[DIM_TILES][4];
#pragma unroll
    for (int d = 0; d < DIM_TILES; d++) {
      load_matrices(q[d], &shared.queries[stage][(row_warp * 16 + lane % 16) * STRIDE + d * 16 + lane / 16 * 8]);
      u32 low = *(const u32 *)&shared.biases[stage][0][d * 16 + 2 * t];
      u32 high = *(const u32 *)&shared.biases[stage][0][d * 16 + 8 + 2 * t];
      q[d][0] = add_halves(q[d][0], low), q[d][1] = add_halves(q[d][1], low);
      q[d][2] = add_halves(q[d][2], high), q[d][3] = add_halves(q[d][3], high);
    }

    // All tiles but the last are every warp's, so that nothing branches between their products.
    float s[WARP_TILES][2][4];
#pragma unroll
    for (int i = 0; i < WARP_TILES; i++)
#pragma unroll
      for (int j = 0; j < 8; j++) s[i][j / 4][j % 4] = 0.f;
#pragma unroll
    for (int i = 0; i < WARP_TILES - 1; i++) score_tile(s[i], q, keys + i * 16 * STRIDE, lane);
    if (full) score_tile(s[WARP_TILES - 1], q, keys + (WARP_TILES - 1) * 16 * STRIDE, lane);
    // Beyond the end are keys of the last two tiles alone: of the last warp's last, and those of a missing one.
#pragma unroll
    for (int i = WARP_TILES > 1 ? WARP_TILES - 2 : 0; i < WARP_TILES; i++)
#pragma unroll
      for (int j = 0; j < 8; j++) {
        bool missing = i == WARP_TILES - 1 && !full;
        if (missing || (first_tile + i) * 16 + j / 4 * 8 + 2 * t + j % 2 >= TOKENS) s[i][j / 4][j % 4] = MASKED;
      }

    float largest[2] = {MASKED, MASKED}, sum[2] = {0.f, 0.f}, factor[2];
#pragma unroll
    for (int i = 0; i < WARP_TILES; i++)
#pragma unroll
      for (int j = 0; j < 8; j++) largest[j % 4 / 2] = fmaxf(largest[j % 4 / 2], s[i][j / 4][j % 4]);
#pragma unroll
    for (int r = 0; r < 2; r++) {
      largest[r] = fmaxf(largest[r], __shfl_xor_sync(~0u, largest[r], 1));
      largest[r] = fmaxf(largest[r], __shfl_xor_sync(~0u, largest[r], 2)) * LOG2E;
    }
#pragma unroll
    for (int i = 0; i < WARP_TILES; i++)
#pragma unroll
      for (int j = 0; j < 8; j++) {
        int r = j % 4 / 2;
        float p = exp2_approx(__fmaf_rn(s[i][j / 4][j % 4], LOG2E, -largest[r]));
        s[i][j / 4][j % 4] = p, sum[r] += p;
      }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
      sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
    }
#if KEY_WARPS > 1
    if (t == 0) {
      shared.partial_softmax[row_warp][key_warp][g] = make_float2(largest[0], sum[0]);
      shared.partial_softmax[row_warp][key_warp][g + 8] = make_float2(largest[1], sum[1]);
    }
    row_barrier(row_warp);
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float2 parts[KEY_WARPS];
      float top = MASKED, total = 0.f;
#pragma unroll
      for (int w = 0; w < KEY_WARPS; w++) {
        parts[w] = shared.partial_softmax[row_warp][w][g + 8 * r];
        top = fmaxf(top, parts[w].x);
      }
#pragma unroll
      for (int w = 0; w < KEY_WARPS; w++) total += parts[w].y * exp2_approx(parts[w].x - top);
      factor[r] = __fdividef(exp2_approx(largest[r] - top), total);
    }
#else
    factor[0] = __fdividef(1.f, sum[0]), factor[1] = __fdividef(1.f, sum[1]);
#endif
#pragma unroll
    for (int i = 0; i < WARP_TILES; i++)
#pragma unroll
      for (int j = 0; j < 8; j++) s[i][j / 4][j % 4] *= factor[j % 4 / 2];

    float o[HEAD_DIM / 8][4];
#pragma unroll
    for (int d = 0; d < HEAD_DIM / 8; d++) o[d][0] = o[d][1] = o[d][2] = o[d][3] = 0.f;
#pragma unroll
    for (int i = 0; i < WARP_TILES - 1; i++) mix_tile(o, s[i], values + i * 16 * STRIDE, lane);
    if (full) mix_tile(o, s[WARP_TILES - 1], values + (WARP_TILES - 1) * 16 * STRIDE, lane);
#pragma unroll
    for (int i = 0; i < WARP_TILES; i++)
#pragma unroll
      for (int j = 0; j < 8; j++) mean[i][j / 4][j % 4] += s[i][j / 4][j % 4];
    if (of_class_token && maps) {
#pragma unroll
      for (int i = 0; i < WARP_TILES; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
          int key = (first_tile + i) * 16 + j / 4 * 8 + 2 * t + j % 2;
          bool here = i < WARP_TILES - 1 || full;
          if (j % 4 < 2 && here && key < TOKENS) class_rows[((u64)image * HEADS + head) * TOKENS + key] = s[i][j / 4][j % 4];
        }
    }

    // Each warp adds up its share of the columns.
#if KEY_WARPS > 1
#pragma unroll
    for (int d = 0; d < HEAD_DIM / 8; d++)
      if (d % KEY_WARPS != key_warp)
        shared.partial_values[row_warp][key_warp][d][lane] = make_float4(o[d][0], o[d][1], o[d][2], o[d][3]);
    row_barrier(row_warp);
#endif
#pragma unroll
    for (int d = 0; d < HEAD_DIM / 8; d++) {
      if (d % KEY_WARPS != key_warp) continue;
#if KEY_WARPS > 1
#pragma unroll
      for (int w = 0; w < KEY_WARPS; w++) {
        if (w == key_warp) continue;
        float4 part = shared.partial_values[row_warp][w][d][lane];
        o[d][0] += part.x, o[d][1] += part.y, o[d][2] += part.z, o[d][3] += part.w;
      }
#endif
      u32 bias = *(const u32 *)&shared.biases[stage][1][d * 8 + 2 * t];
      float low = low_half(bias), high = high_half(bias);
#pragma unroll
      for (int r = 0; r < 2; r++) {
        int row = first_row + row_warp * 16 + g + 8 * r;
        if (row < queries)
          *(u32 *)(mixed + ((u64)image * queries + row) * WIDTH + head * HEAD_DIM + d * 8 + 2 * t) =
              pack_halves(o[d][2 * r] + low, o[d][2 * r + 1] + high);
      }
    }
  }

  if (!maps || !active) return;
  u16 *out = mean_out + ((u64)image * gridDim.y + blockIdx.y) * queries * MEAN_STRIDE;
#pragma unroll
  for (int i = 0; i < WARP_TILES; i++)
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      int row = first_row + row_warp * 16 + g + j % 4 / 2 * 8;
      int key = (first_tile + i) * 16 + j / 4 * 8 + 2 * t;
      bool here = i < WARP_TILES - 1 || full;
      if (here && row < queries && key < MEAN_STRIDE)
        *(u32 *)(out + (u64)row * MEAN_STRIDE + key) =
            pack_halves(mean[i][j / 4][j % 4] * (1.f / HEADS), mean[i][j / 4][j % 4 + 1] * (1.f / HEADS));
    }
}

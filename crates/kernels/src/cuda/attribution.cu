// Per-label attribution of all blocks: φ_c[j] = Σ_l Σ_h a_lh[j] · ⟨v_lh[j] O_lh, u_c⟩, for the labels' directions u.
// O is multiplied with u, not with the values: that costs tokens / labels times less.

#define WIDTH (HEADS * HEAD_DIM)

struct Blocks {
  // [WIDTH, WIDTH], as [in, out].
  const u16 *output_kernel[LAYERS];
  // [batch, TOKENS, WIDTH], without their bias, which is `value_bias` [WIDTH].
  const u16 *values[LAYERS];
  const u16 *value_bias[LAYERS];
  // Class token's attention, [batch, HEADS, TOKENS].
  const float *class_rows[LAYERS];
};

#define ROW_TILE 64
#define COLUMN_TILE 32
#define DEPTH 64
#define TILE_STRIDE (DEPTH + 8)

// directions [rows, WIDTH] · O_lᵀ → projected [LAYERS, rows, WIDTH].
// grid: (ceil(WIDTH / COLUMN_TILE), ceil(rows / ROW_TILE), LAYERS); block: 128 threads, each warp 16 rows.
extern "C" __global__ void __launch_bounds__(128)
    project_directions(Blocks blocks, const u16 *__restrict__ directions, u16 *__restrict__ projected, int rows) {
  __shared__ __align__(16) u16 a[2][ROW_TILE * TILE_STRIDE], b[2][COLUMN_TILE * TILE_STRIDE];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  int first_column = blockIdx.x * COLUMN_TILE, first_row = blockIdx.y * ROW_TILE, layer = blockIdx.z;
  const u16 *kernel = blocks.output_kernel[layer];
  bool active = first_row + warp * 16 < rows;
  float c[COLUMN_TILE / 8][4];
#pragma unroll
  for (int i = 0; i < COLUMN_TILE / 8; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0.f;

  auto load = [&](int stage, int depth) {
    for (int i = threadIdx.x; i < COLUMN_TILE * (DEPTH / 8); i += 128) {
      int column = i / (DEPTH / 8), at = i % (DEPTH / 8) * 8;
      bool valid = first_column + column < WIDTH && depth + at < WIDTH;
      copy_16(&b[stage][column * TILE_STRIDE + at], kernel + (valid ? (first_column + column) * WIDTH + depth + at : 0), valid);
    }
    for (int i = threadIdx.x; i < ROW_TILE * (DEPTH / 8); i += 128) {
      int row = i / (DEPTH / 8), at = i % (DEPTH / 8) * 8;
      bool valid = first_row + row < rows && depth + at < WIDTH;
      copy_16(&a[stage][row * TILE_STRIDE + at], directions + (valid ? (u64)(first_row + row) * WIDTH + depth + at : 0), valid);
    }
    commit_copies();
  };
  load(0, 0);
  int stage = 0;
  for (int depth = 0; depth < WIDTH; depth += DEPTH, stage ^= 1) {
    wait_for_copies();
    __syncthreads();
    if (depth + DEPTH < WIDTH) load(stage ^ 1, depth + DEPTH);
    if (!active) continue;
#pragma unroll
    for (int k = 0; k < DEPTH / 16; k++) {
      u32 x[4];
      load_matrices(x, &a[stage][(warp * 16 + lane % 16) * TILE_STRIDE + k * 16 + lane / 16 * 8]);
#pragma unroll
      for (int n = 0; n < COLUMN_TILE / 16; n++) {
        u32 y[4];
        load_matrices(y, &b[stage][(n * 16 + lane / 16 * 8 + lane % 8) * TILE_STRIDE + k * 16 + lane / 8 % 2 * 8]);
        multiply_tile(c[2 * n], x, y[0], y[1]);
        multiply_tile(c[2 * n + 1], x, y[2], y[3]);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < COLUMN_TILE / 8; n++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      int row = first_row + warp * 16 + g + 8 * r, column = first_column + n * 8 + 2 * t;
      if (row < rows && column < WIDTH)
        *(u32 *)(projected + ((u64)layer * rows + row) * WIDTH + column) = pack_halves(c[n][2 * r], c[n][2 * r + 1]);
    }
}

// A warp takes so many tokens through every WARPS-th block of the network.
#define WARP_TOKENS 8
#define WARPS 8

// projected [LAYERS, batch · DIRECTIONS, WIDTH] → by_token [batch, TOKENS, DIRECTIONS].
// grid: (ceil(TOKENS / WARP_TOKENS), batch); block: WARPS · 32 threads.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
    attribute_tokens(Blocks blocks, const u16 *__restrict__ projected, float *__restrict__ by_token) {
  __shared__ float parts[WARPS][WARP_TOKENS][DIRECTIONS];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first_token = blockIdx.x * WARP_TOKENS, image = blockIdx.y;
  float sums[WARP_TOKENS][DIRECTIONS];
#pragma unroll
  for (int i = 0; i < WARP_TOKENS; i++)
#pragma unroll
    for (int d = 0; d < DIRECTIONS; d++) sums[i][d] = 0.f;

  for (int layer = warp; layer < LAYERS; layer += WARPS) {
    const u16 *projections = projected + ((u64)layer * gridDim.y + image) * DIRECTIONS * WIDTH;
    const u16 *values = blocks.values[layer] + (u64)image * TOKENS * WIDTH;
    const float *attention = blocks.class_rows[layer] + (u64)image * HEADS * TOKENS;
    for (int at = lane * 8; at < WIDTH; at += 256) {
      uint4 bias = *(const uint4 *)(blocks.value_bias[layer] + at), value[WARP_TOKENS], projection[DIRECTIONS];
      float weight[WARP_TOKENS];
#pragma unroll
      for (int i = 0; i < WARP_TOKENS; i++) {
        // Tokens beyond the end repeat the last one and are not written.
        int token = first_token + i < TOKENS ? first_token + i : TOKENS - 1;
        value[i] = *(const uint4 *)(values + token * WIDTH + at);
        weight[i] = attention[at / HEAD_DIM * TOKENS + token];
      }
#pragma unroll
      for (int d = 0; d < DIRECTIONS; d++) projection[d] = *(const uint4 *)(projections + d * WIDTH + at);
      u32 b[4] = {bias.x, bias.y, bias.z, bias.w};
#pragma unroll
      for (int k = 0; k < 4; k++) {
        float low[DIRECTIONS], high[DIRECTIONS];
#pragma unroll
        for (int d = 0; d < DIRECTIONS; d++) {
          u32 pair = k == 0 ? projection[d].x : k == 1 ? projection[d].y : k == 2 ? projection[d].z : projection[d].w;
          low[d] = low_half(pair), high[d] = high_half(pair);
        }
#pragma unroll
        for (int i = 0; i < WARP_TOKENS; i++) {
          u32 pair = k == 0 ? value[i].x : k == 1 ? value[i].y : k == 2 ? value[i].z : value[i].w;
          float x = weight[i] * (low_half(pair) + low_half(b[k])), y = weight[i] * (high_half(pair) + high_half(b[k]));
#pragma unroll
          for (int d = 0; d < DIRECTIONS; d++) sums[i][d] += x * low[d] + y * high[d];
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < WARP_TOKENS; i++)
#pragma unroll
    for (int d = 0; d < DIRECTIONS; d++) {
      for (int offset = 16; offset > 0; offset /= 2) sums[i][d] += __shfl_xor_sync(~0u, sums[i][d], offset);
      if (lane == 0) parts[warp][i][d] = sums[i][d];
    }
  __syncthreads();
  for (int i = threadIdx.x; i < WARP_TOKENS * DIRECTIONS; i += WARPS * 32) {
    int token = first_token + i / DIRECTIONS;
    float total = 0.f;
    for (int w = 0; w < WARPS; w++) total += parts[w][i / DIRECTIONS][i % DIRECTIONS];
    if (token < TOKENS) by_token[((u64)image * TOKENS + token) * DIRECTIONS + i % DIRECTIONS] = total;
  }
}

// What a block's MLP wrote to the class token, and the biases that it and the attention output add, summed up
// over the blocks in float32.
//
// grid: (ceil(WIDTH / 256), batch); block: 256 threads.

#define WIDTH (HEADS * HEAD_DIM)

// before and sum [batch, WIDTH]; written [batch, rows, WIDTH], of which row 0 is the class token's.
extern "C" __global__ void __launch_bounds__(256)
    class_token_sum(const float *__restrict__ before, const u16 *__restrict__ written, const u16 *__restrict__ mlp_bias,
                    const u16 *__restrict__ out_bias, float *__restrict__ sum, int rows) {
  int column = blockIdx.x * 256 + threadIdx.x, image = blockIdx.y;
  if (column >= WIDTH) return;
  float added = half_to_float(written[(u64)image * rows * WIDTH + column]) + half_to_float(mlp_bias[column]) +
                half_to_float(out_bias[column]);
  sum[(u64)image * WIDTH + column] = before[(u64)image * WIDTH + column] + added;
}

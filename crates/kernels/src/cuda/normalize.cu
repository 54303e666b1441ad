// Images of a batch as the network reads them: those in bytes first, normalised, then those that come
// normalised. Each step is rounded to float32, as on the host, the result to float16.
//
// grid: (ceil(pixels / 256), batch); block: 256 threads.

// bytes [byte_images, pixels, 3]; values [batch - byte_images, 3, pixels]; scale [1]; mean and deviation [3];
// planes [batch, 3, pixels].
extern "C" __global__ void __launch_bounds__(256)
    normalize(const unsigned char *__restrict__ bytes, const float *__restrict__ values,
              const float *__restrict__ scale, const float *__restrict__ mean, const float *__restrict__ deviation,
              u16 *__restrict__ planes, int byte_images, int pixels) {
  int at = blockIdx.x * 256 + threadIdx.x, image = blockIdx.y;
  if (at >= pixels) return;
#pragma unroll
  for (int channel = 0; channel < 3; channel++) {
    float value;
    if (image < byte_images) {
      float byte = bytes[((u64)image * pixels + at) * 3 + channel];
      value = __fdiv_rn(__fsub_rn(__fmul_rn(byte, scale[0]), mean[channel]), deviation[channel]);
    } else {
      value = values[((u64)(image - byte_images) * 3 + channel) * pixels + at];
    }
    planes[((u64)image * 3 + channel) * pixels + at] = float_to_half(value);
  }
}

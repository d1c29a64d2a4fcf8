/* Vectors of doubles in the compiler's own vector type, and exp and log on them.
 *
 *     exp(x) = 2^n exp(r),  n = round(x / ln 2),  r = x - n ln 2,  |r| <= ln(2) / 2
 *     exp(r) = 1 + (r + r^2 q(r)),  q of degree 10 (Chebyshev fit of (exp(r) - 1 - r) / r^2)
 *
 * The fit's error is 2.4e-19 relative, so what remains is the rounding of the last two operations:
 * at most 1 ulp. ln 2 is split so that n * LN2_HI is exact for |n| < 2^21 (Cody & Waite 1980).
 *
 * gcc and clang: VEC_LANES doubles, by what the file is compiled for. Elsewhere: one double, same code path.
 */
#ifndef CSOFTMAX_SIMD_H
#define CSOFTMAX_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* veci_t is unsigned: where x is far out of exp's range the sum with the exponent wraps, and the result is masked. */
#if defined(__GNUC__) || defined(__clang__)
#  if defined(__AVX512F__)
#    define VEC_LANES 8
#  elif defined(__AVX__)
#    define VEC_LANES 4
#  else
#    define VEC_LANES 2
#  endif
typedef double vec_t __attribute__((vector_size(VEC_LANES * 8)));
typedef uint64_t veci_t __attribute__((vector_size(VEC_LANES * 8)));
#  define VEC_MASK(comparison) ((veci_t)(comparison))
#  define VEC_BITS(x) ((veci_t)(x))
#  define VEC_FROM_BITS(b) ((vec_t)(b))
#else
#  define VEC_LANES 1
typedef double vec_t;
typedef uint64_t veci_t;
#  define VEC_MASK(comparison) (-(veci_t)(comparison))
static inline veci_t VEC_BITS(double x) { veci_t b; memcpy(&b, &x, 8); return b; }
static inline double VEC_FROM_BITS(veci_t b) { double x; memcpy(&x, &b, 8); return x; }
#endif

/* Tiles of the loops, by the number of registers: 32 with AVX-512, else 16 */
#if VEC_LANES == 8
#  define FORWARD_VECS 3
#  define OUTER_CLASSES 8
#  define OUTER_VECS 3
#else
#  define FORWARD_VECS 2
#  define OUTER_CLASSES 5
#  define OUTER_VECS 2
#endif

static inline vec_t vload(const double *p) { vec_t v; memcpy(&v, p, sizeof v); return v; }
static inline void vstore(double *p, vec_t v) { memcpy(p, &v, sizeof v); }
static inline vec_t vset(double x) { vec_t zero = {0}; return x - zero; }
static inline vec_t vselect(veci_t mask, vec_t a, vec_t b) {
    return VEC_FROM_BITS((VEC_BITS(a) & mask) | (VEC_BITS(b) & ~mask));
}
static inline vec_t vmax(vec_t a, vec_t b) { return vselect(VEC_MASK(a > b), a, b); }
/* x where a == b, else 0 */
static inline vec_t vwhere_equal(vec_t a, vec_t b, vec_t x) {
    return VEC_FROM_BITS(VEC_BITS(x) & VEC_MASK(a == b));
}
/* x where a == b, else y */
static inline vec_t vblend_equal(vec_t a, vec_t b, vec_t x, vec_t y) { return vselect(VEC_MASK(a == b), x, y); }
/* x where a is neither infinite nor nan, else 0 */
static inline vec_t vwhere_finite(vec_t a, vec_t x) {
    return VEC_FROM_BITS(VEC_BITS(x) & VEC_MASK(a - a == a - a));
}
/* In a fixed order, so that the answer depends on VEC_LANES alone. */
static inline double vsum(vec_t v) {
    double lane[VEC_LANES], s = 0.0;
    memcpy(lane, &v, sizeof v);
    for (int i = 0; i < VEC_LANES; i++) s += lane[i];
    return s;
}
static inline double vmaximum(vec_t v) {
    double lane[VEC_LANES], m;
    memcpy(lane, &v, sizeof v);
    m = lane[0];
    for (int i = 1; i < VEC_LANES; i++) m = lane[i] > m ? lane[i] : m;
    return m;
}

/* exp(r), and n in the low 12 bits of *exponent */
static inline vec_t vexp_reduced(vec_t x, veci_t *exponent) {
    const double round_bias = 6755399441055744.0;  /* 1.5 * 2^52: adding it rounds to an integer in the low bits */
    vec_t shifted = x * 0x1.71547652b82fep+0 + round_bias;
    vec_t n = shifted - round_bias;
    vec_t r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    vec_t q = r * 0x1.1f730349868cep-29 + 0x1.af4de97ca4194p-26;
    q = q * r + 0x1.27e4db646b17ep-22;
    q = q * r + 0x1.71de0231960ebp-19;
    q = q * r + 0x1.a01a01a6d889cp-16;
    q = q * r + 0x1.a01a01abe7fe1p-13;
    q = q * r + 0x1.6c16c16c162d4p-10;
    q = q * r + 0x1.11111111100dcp-7;
    q = q * r + 0x1.5555555555556p-5;
    q = q * r + 0x1.5555555555557p-3;
    q = q * r + 0.5;
    *exponent = VEC_BITS(shifted);
    return (q * r * r + r) + 1.0;
}

/* exp for x <= 709; exactly 0 below -708 (the smallest normal number is exp(-708.4)), since a denormal costs
 * over a hundred cycles in every later operation; nan stays nan. */
static inline vec_t vexp(vec_t x) {
    veci_t n;
    vec_t y = vexp_reduced(x, &n);
    y = VEC_FROM_BITS(VEC_BITS(y) + (n << 52));
    y = VEC_FROM_BITS(VEC_BITS(y) & ~VEC_MASK(x < -708.0));
    return vselect(VEC_MASK(x == x), y, x);
}

/* exp for x <= 709, denormal results included: 2^(n + 256) by the exponent bits, then a multiplication by 2^-256
 * that rounds once; exactly 0 below -745.2. */
static inline vec_t vexp_gradual(vec_t x) {
    veci_t n;
    vec_t y = vexp_reduced(x, &n);
    veci_t low = VEC_MASK(x < -700.0);
    y = VEC_FROM_BITS(VEC_BITS(y) + ((n + (low & 256)) << 52));
    y = vselect(low, y * 0x1p-256, y);
    y = VEC_FROM_BITS(VEC_BITS(y) & ~VEC_MASK(x < -745.2));
    return vselect(VEC_MASK(x == x), y, x);
}


/* log(1 + x) for finite x >= 0. With u = 1 + x = 2^n (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), s = f / (2 + f), z = s^2:
 *
 *     log(1 + f) = f - (f^2/2 - s (f^2/2 + z P(z)))       P of degree 6 (Chebyshev fit, error 4.6e-18 relative)
 *     log1p(x)   = n ln 2 + log(1 + f) + (x - (u - 1)) / u
 *
 * the last term being what the rounding of 1 + x lost. */
static inline vec_t vlog1p(vec_t x) {
    vec_t u = x + 1.0;
    vec_t lost = x - (u - 1.0);
    /* bits of sqrt(1/2): what is above counts as the next power of two */
    veci_t n = (VEC_BITS(u) - UINT64_C(0x3fe6a09e667f3bcd)) >> 52;
    vec_t f = VEC_FROM_BITS(VEC_BITS(u) - (n << 52)) - 1.0;
    vec_t k = VEC_FROM_BITS(n + UINT64_C(0x4338000000000000)) - 6755399441055744.0;
    vec_t s = f / (f + 2.0);
    vec_t z = s * s;
    vec_t half = 0.5 * f * f;
    vec_t p = z * 0x1.2b5f68a50d903p-3 + 0x1.39fdcceb4bb45p-3;
    p = p * z + 0x1.7462b91b8df65p-3;
    p = p * z + 0x1.c71c62d5e53e0p-3;
    p = p * z + 0x1.2492492dfd86cp-2;
    p = p * z + 0x1.9999999995273p-2;
    p = p * z + 0x1.5555555555558p-1;
    vec_t tail = s * (half + p * z) + (k * 0x1.a39ef35793c76p-33 + lost / u);
    return k * 0x1.62e42fee00000p-1 - ((half - tail) - f);
}

/* VEC_LANES vectors as the rows of a square matrix -> its columns, in place: 24 shuffles for 8 lanes */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#  define VEC_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#  define VEC_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (veci_t){__VA_ARGS__})
#endif
#if VEC_LANES == 8 && defined(__GNUC__)
static inline void vtranspose(vec_t *a) {
    vec_t b[8], c[8];
    for (int i = 0; i < 8; i += 2) {
        b[i] = VEC_SHUFFLE(a[i], a[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        b[i + 1] = VEC_SHUFFLE(a[i], a[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            c[i + j] = VEC_SHUFFLE(b[i + j], b[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            c[i + j + 2] = VEC_SHUFFLE(b[i + j], b[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int j = 0; j < 4; j++) {
        a[j] = VEC_SHUFFLE(c[j], c[j + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        a[j + 4] = VEC_SHUFFLE(c[j], c[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#elif VEC_LANES == 4 && defined(__GNUC__)
static inline void vtranspose(vec_t *a) {
    vec_t b[4];
    for (int i = 0; i < 4; i += 2) {
        b[i] = VEC_SHUFFLE(a[i], a[i + 1], 0, 4, 2, 6);
        b[i + 1] = VEC_SHUFFLE(a[i], a[i + 1], 1, 5, 3, 7);
    }
    for (int j = 0; j < 2; j++) {
        a[j] = VEC_SHUFFLE(b[j], b[j + 2], 0, 1, 4, 5);
        a[j + 2] = VEC_SHUFFLE(b[j], b[j + 2], 2, 3, 6, 7);
    }
}
#elif VEC_LANES == 2 && defined(__GNUC__)
static inline void vtranspose(vec_t *a) {
    vec_t b = VEC_SHUFFLE(a[0], a[1], 0, 2);
    a[1] = VEC_SHUFFLE(a[0], a[1], 1, 3);
    a[0] = b;
}
#else
static inline void vtranspose(vec_t *a) { (void)a; }
#endif

#endif

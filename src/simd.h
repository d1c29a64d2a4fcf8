/* Vectors in the compiler's own vector types, and exp and log on them.
 *
 *     exp(x) = 2^n exp(r),  n = round(x / ln 2),  r = x - n ln 2,  |r| <= ln(2) / 2
 *     exp(r) = 1 + (r + r^2 q(r)),  q of degree 10 in double, 4 in float (minimax fits)
 *
 * The fit's error is 3.4e-19 relative (float: 3.8e-9), so what remains is the rounding of the last operation and of
 * r + r^2 q(r): 1.04 ulp at most, measured. ln 2 is split: n times the upper part is exact (Cody & Waite 1980).
 *
 * number_t is double, or float where CSOFTMAX_SINGLE is defined: the same source is built for each. gcc and clang:
 * VEC_LANES of them, by what the file is compiled for. Elsewhere: one, same code path.
 */
#ifndef CSOFTMAX_SIMD_H
#define CSOFTMAX_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#  if defined(__AVX512F__)
#    define VEC_BYTES 64
#  elif defined(__AVX__)
#    define VEC_BYTES 32
#  else
#    define VEC_BYTES 16
#  endif
#  ifdef CSOFTMAX_SINGLE
typedef float number_t;
typedef float vec_t __attribute__((vector_size(VEC_BYTES)));
typedef uint32_t bits_t;
typedef uint32_t veci_t __attribute__((vector_size(VEC_BYTES)));  /* unsigned: sums with an exponent may wrap */
typedef float half_t __attribute__((vector_size(VEC_BYTES / 2)));
#    define VEC_LANES (VEC_BYTES / 4)
#  else
typedef double number_t;
typedef double vec_t __attribute__((vector_size(VEC_BYTES)));
typedef double half_t __attribute__((vector_size(VEC_BYTES / 2)));
typedef uint64_t bits_t;
typedef uint64_t veci_t __attribute__((vector_size(VEC_BYTES)));
#    define VEC_LANES (VEC_BYTES / 8)
#  endif
#  define VEC_MASK(comparison) ((veci_t)(comparison))
#  define VEC_BITS(x) ((veci_t)(x))
#  define VEC_FROM_BITS(b) ((vec_t)(b))
#  define PREFETCH(p) __builtin_prefetch((p), 0, 2)
#  define UNLIKELY(condition) __builtin_expect((condition), 0)
#else
#  define VEC_BYTES 8
#  define VEC_LANES 1
#  ifdef CSOFTMAX_SINGLE
typedef float number_t;
typedef uint32_t bits_t;
#  else
typedef double number_t;
typedef uint64_t bits_t;
#  endif
typedef number_t vec_t;
typedef bits_t veci_t;
#  define VEC_MASK(comparison) (-(veci_t)(comparison))
static inline veci_t VEC_BITS(vec_t x) { veci_t b; memcpy(&b, &x, sizeof b); return b; }
static inline vec_t VEC_FROM_BITS(veci_t b) { vec_t x; memcpy(&x, &b, sizeof x); return x; }
#  define PREFETCH(p) ((void)(p))
#  define UNLIKELY(condition) (condition)
#endif

/* Tiles of the loops, by the number of registers: 32 with AVX-512, else 16 */
#if VEC_BYTES == 64
#  define FORWARD_ROWS 8
#  define FORWARD_VECS 3
#  define DOT_ROWS 8
#  define OUTER_CLASSES 8
#  define OUTER_VECS 3
#  define COLUMN_PAIRS 4
#else
#  define FORWARD_ROWS 4
#  define FORWARD_VECS 2
#  define DOT_ROWS (VEC_LANES < 4 ? VEC_LANES : 4)
#  define OUTER_CLASSES 5
#  define OUTER_VECS 2
#  define COLUMN_PAIRS (VEC_LANES < 2 ? VEC_LANES : 2)
#endif

static inline vec_t vload(const number_t *p) { vec_t v; memcpy(&v, p, sizeof v); return v; }
/* Loaded once and kept in a register: gcc folds the load into each multiplication that uses it, and where vectors
 * straddle cache lines loads are what bounds a tile of dot products (70 000 x 784 x 10: from 35 ms to 24). */
static inline vec_t vload_once(const number_t *p) {
    vec_t v = vload(p);
#if VEC_LANES > 1 && defined(__x86_64__)
    __asm__("" : "+v"(v));
#endif
    return v;
}
static inline void vstore(number_t *p, vec_t v) { memcpy(p, &v, sizeof v); }
static inline vec_t vset(number_t x) { vec_t zero = {0}; return x - zero; }

/* vmax(a, b): a where a > b, else b, so a nan in b stays. vselect(mask, a, b): a where the mask is set, else b.
 * x86 has one instruction for each; from the vector types' comparisons gcc 12 makes three or four, and a residual
 * stage of 7 classes took 1.3 times as long. */
#if defined(__AVX512F__)
#  include <immintrin.h>
#  ifdef CSOFTMAX_SINGLE
#    define VEC_OP(name) _mm512_##name##_ps
typedef __mmask16 mask_t;
#  else
#    define VEC_OP(name) _mm512_##name##_pd
typedef __mmask8 mask_t;
#  endif
static inline vec_t vmax(vec_t a, vec_t b) { return VEC_OP(max)(a, b); }
static inline mask_t mask_equal(vec_t a, vec_t b) {
#  ifdef CSOFTMAX_SINGLE
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
#  else
    return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ);
#  endif
}
static inline mask_t mask_greater(vec_t a, vec_t b) {
#  ifdef CSOFTMAX_SINGLE
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
#  else
    return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ);
#  endif
}
static inline vec_t vselect(mask_t mask, vec_t a, vec_t b) { return VEC_OP(mask_blend)(mask, b, a); }
static inline vec_t vwhere(mask_t mask, vec_t a) { return VEC_OP(maskz_mov)(mask, a); }
#else
typedef veci_t mask_t;
static inline mask_t mask_equal(vec_t a, vec_t b) { return VEC_MASK(a == b); }
static inline mask_t mask_greater(vec_t a, vec_t b) { return VEC_MASK(a > b); }
static inline vec_t vwhere(mask_t mask, vec_t a) { return VEC_FROM_BITS(VEC_BITS(a) & mask); }
#  if defined(__AVX__) || defined(__SSE4_1__)
#    include <immintrin.h>
#    if defined(__AVX__) && defined(CSOFTMAX_SINGLE)
#      define VEC_OP(name) _mm256_##name##_ps
#    elif defined(__AVX__)
#      define VEC_OP(name) _mm256_##name##_pd
#    elif defined(CSOFTMAX_SINGLE)
#      define VEC_OP(name) _mm_##name##_ps
#    else
#      define VEC_OP(name) _mm_##name##_pd
#    endif
static inline vec_t vmax(vec_t a, vec_t b) { return VEC_OP(max)(a, b); }
static inline vec_t vselect(mask_t mask, vec_t a, vec_t b) { return VEC_OP(blendv)(b, a, VEC_FROM_BITS(mask)); }
#  else
static inline vec_t vselect(mask_t mask, vec_t a, vec_t b) {
    return VEC_FROM_BITS((VEC_BITS(a) & mask) | (VEC_BITS(b) & ~mask));
}
static inline vec_t vmax(vec_t a, vec_t b) { return vselect(mask_greater(a, b), a, b); }
#  endif
#endif

/* x where a is neither infinite nor nan, else 0 */
static inline vec_t vwhere_finite(vec_t a, vec_t x) { return vwhere(mask_equal(a - a, a - a), x); }
/* x where not a == b, else 0; x where a == b, else y */
static inline vec_t vwhere_differs(vec_t a, vec_t b, vec_t x) { return vwhere((mask_t)~mask_equal(a, b), x); }
static inline vec_t vblend_equal(vec_t a, vec_t b, vec_t x, vec_t y) { return vselect(mask_equal(a, b), x, y); }
/* s + x where a == b, else s; s + x where not a == b, else s */
#if defined(__AVX512F__)
static inline vec_t vadd_where_equal(vec_t s, vec_t a, vec_t b, vec_t x) {
    return VEC_OP(mask_add)(s, mask_equal(a, b), s, x);
}
static inline vec_t vadd_unless_equal(vec_t s, vec_t a, vec_t b, vec_t x) {
    return VEC_OP(mask_add)(s, (mask_t)~mask_equal(a, b), s, x);
}
#else
static inline vec_t vadd_where_equal(vec_t s, vec_t a, vec_t b, vec_t x) { return s + vwhere(mask_equal(a, b), x); }
static inline vec_t vadd_unless_equal(vec_t s, vec_t a, vec_t b, vec_t x) { return s + vwhere(~mask_equal(a, b), x); }
#endif
/* c - a b, rounded once where the processor can, whether or not the compiler contracts expressions */
#if defined(__FMA__)
static inline vec_t vless_product(vec_t c, vec_t a, vec_t b) { return VEC_OP(fnmadd)(a, b, c); }
#else
static inline vec_t vless_product(vec_t c, vec_t a, vec_t b) { return c - a * b; }
#endif
/* 1 / (b + b_low) as the number nearest and *low, what remains of it: a / b is a * high + a * low, two operations, and
 * within 0.5 ulp with FMA, 1 without; a division of 8 lanes takes as long as 9. Without FMA the product of high and b
 * is by Dekker's splitting, for b < 2^996 (float: 2^115). */
static inline vec_t vreciprocal_parts(vec_t b, vec_t b_low, vec_t *low) {
    vec_t high = (number_t)1 / b;
#if defined(__FMA__) || defined(__aarch64__)
    vec_t rest = vless_product(vset(1), high, b);
#else
    const number_t split = sizeof(number_t) == 8 ? 134217729 : 4097;
    vec_t hs = high * split, bs = b * split;
    vec_t h1 = hs - (hs - high), b1 = bs - (bs - b);
    vec_t h2 = high - h1, b2 = b - b1;
    vec_t rest = ((((number_t)1 - h1 * b1) - h1 * b2) - h2 * b1) - h2 * b2;
#endif
    *low = (rest - high * b_low) * high;
    return high;
}
/* n numbers, and those of `beyond` in the other lanes; and n lanes stored, from 1 to VEC_LANES */
#if defined(__AVX512F__)
static inline vec_t vload_part(const number_t *p, ptrdiff_t n, vec_t beyond) {
    if (n >= VEC_LANES) return vload(p);
    return VEC_OP(mask_loadu)(beyond, (mask_t)((1u << n) - 1), p);
}
static inline void vstore_part(number_t *p, vec_t v, ptrdiff_t n) {
    if (n >= VEC_LANES) vstore(p, v);
    else VEC_OP(mask_storeu)(p, (mask_t)((1u << n) - 1), v);
}
#else
static inline vec_t vload_part(const number_t *p, ptrdiff_t n, vec_t beyond) {
    number_t part[VEC_LANES];
    if (n >= VEC_LANES) return vload(p);
    vstore(part, beyond);
    for (int i = 0; i < n; i++) part[i] = p[i];
    return vload(part);
}
static inline void vstore_part(number_t *p, vec_t v, ptrdiff_t n) {
    number_t part[VEC_LANES];
    if (n >= VEC_LANES) vstore(p, v);
    else {
        vstore(part, v);
        for (int i = 0; i < n; i++) p[i] = part[i];
    }
}
#endif
/* *sum + x and what its rounding loses, added to *lost (Knuth's two-sum) */
static inline void vadd_exact(vec_t *sum, vec_t *lost, vec_t x) {
    vec_t s = *sum, t = s + x, z = t - s;
    *lost += (s - (t - z)) + (x - z);
    *sum = t;
}
/* The same where no x is larger than *sum (Dekker's fast two-sum) */
static inline void vadd_smaller(vec_t *sum, vec_t *lost, vec_t x) {
    vec_t s = *sum, t = s + x;
    *lost += x - (t - s);
    *sum = t;
}
static inline int vany(mask_t mask) {
#if defined(__AVX512F__)
    return mask != 0;
#elif defined(__SSE4_1__) && VEC_BYTES == 32
    return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#elif defined(__SSE4_1__)
    return !_mm_testz_si128((__m128i)mask, (__m128i)mask);
#else
    bits_t lane[VEC_LANES], any = 0;
    memcpy(lane, &mask, sizeof lane);
    for (int i = 0; i < VEC_LANES; i++) any |= lane[i];
    return any != 0;
#endif
}
static inline int vall_finite(vec_t a) {
    mask_t finite = mask_equal(a - a, a - a);
#if defined(__AVX512F__)
    return finite == (mask_t)-1;
#else
    bits_t lane[VEC_LANES], all = (bits_t)-1;
    memcpy(lane, &finite, sizeof lane);
    for (int i = 0; i < VEC_LANES; i++) all &= lane[i];
    return all != 0;
#endif
}
/* In a fixed order, so that the answer depends on VEC_LANES alone; in double. */
static inline double vsum(vec_t v) {
    number_t lane[VEC_LANES];
    double s = 0.0;
    memcpy(lane, &v, sizeof v);
    for (int i = 0; i < VEC_LANES; i++) s += lane[i];
    return s;
}
static inline number_t vfirst(vec_t v) { number_t x; memcpy(&x, &v, sizeof x); return x; }
#if defined(__AVX512F__)
static inline number_t vmaximum(vec_t v) { return VEC_OP(reduce_max)(v); }
#else
static inline number_t vmaximum(vec_t v) {
    number_t lane[VEC_LANES], m;
    memcpy(lane, &v, sizeof v);
    m = lane[0];
    for (int i = 1; i < VEC_LANES; i++) m = lane[i] > m ? lane[i] : m;
    return m;
}
#endif

/* The rounding constant, 1.5 * 2^52 plus the exponent's bias: added to a number it leaves n + bias in the low bits. */
#ifdef CSOFTMAX_SINGLE
#  define EXP_ROUND 12583039.0f
#  define EXP_BITS 23
#  define EXP_FLUSH -87.0f      /* the smallest normal number is exp(-87.3) */
#  define EXP_GRADUAL -80.0f
#  define EXP_ZERO -104.0f      /* half of the smallest number is exp(-103.97) */
#  define EXP_RAISE 64
#  define EXP_LOWER 0x1p-64f
#else
#  define EXP_ROUND 6755399441056767.0
#  define EXP_BITS 52
#  define EXP_FLUSH -708.0      /* the smallest normal number is exp(-708.4) */
#  define EXP_GRADUAL -700.0
#  define EXP_ZERO -745.2       /* half of the smallest number is exp(-745.13) */
#  define EXP_RAISE 256
#  define EXP_LOWER 0x1p-256
#endif

/* ln 2 in two parts: n times the upper one is exact, for |n| < 2^21 (float: 2^9). In sixteenths, as the table has them,
 * float's n needs 4 bits more: there the product has to be one that is not rounded. */
#ifdef CSOFTMAX_SINGLE
#  define LOG2_E 0x1.715476p+0f
#  define LN2_UPPER 0x1.62e4p-1f
#  define LN2_LOWER 0x1.7f7d1cp-20f
#else
#  define LOG2_E 0x1.71547652b82fep+0
#  define LN2_UPPER 0x1.62e42fee00000p-1
#  define LN2_LOWER 0x1.a39ef35793c76p-33
#endif

/* exp(r) - 1, and *lost, what its last addition loses. The polynomial by Estrin's scheme: Horner's chain of twelve
 * dependent operations left the multipliers idle, for no more than five of them fit in the scheduler at a time */
static inline vec_t vexpm1_parts(vec_t r, vec_t *lost) {
    vec_t r2 = r * r, p;
#ifdef CSOFTMAX_SINGLE
    vec_t q = (r * 0x1.555492p-3f + 0x1.fffffcp-2f)
            + r2 * ((r * 0x1.1239e2p-7f + 0x1.5558f2p-5f) + r2 * 0x1.6a2434p-10f);
#else
    vec_t r4 = r2 * r2;
    vec_t q0 = (r * 0x1.5555555555557p-3 + 0.5) + r2 * (r * 0x1.11111111100dcp-7 + 0x1.5555555555556p-5);
    vec_t q4 = (r * 0x1.a01a01abe7fe1p-13 + 0x1.6c16c16c162d4p-10)
             + r2 * (r * 0x1.71de0231960ebp-19 + 0x1.a01a01a6d889cp-16);
    vec_t q8 = (r * 0x1.af4de97ca4194p-26 + 0x1.27e4db646b17ep-22) + r2 * 0x1.1f730349868cep-29;
    vec_t q = (q0 + r4 * q4) + (r4 * r4) * q8;
#endif
    p = q * r2 + r;
    *lost = q * r2 - (p - r);
    return p;
}
static inline vec_t vexpm1_reduced(vec_t r) {
    vec_t lost;
    return vexpm1_parts(r, &lost);
}

/* exp(r) - 1; and n + bias in the low bits of *exponent */
static inline vec_t vexp_reduced(vec_t x, veci_t *exponent) {
    vec_t shifted = x * LOG2_E + EXP_ROUND;
    vec_t n = shifted - EXP_ROUND;
    *exponent = VEC_BITS(shifted);
    return vexpm1_reduced((x - n * LN2_UPPER) - n * LN2_LOWER);
}

/* exp for x <= 709 (float: 88); exactly 0 below EXP_FLUSH, since a denormal costs over a hundred cycles in every later
 * operation; nan stays nan. x is held above EXP_FLUSH - 1, where the arithmetic is finite. */
static inline vec_t vexp(vec_t x) {
    veci_t n;
    vec_t held = vmax(vset(EXP_FLUSH - 1), x);
    vec_t p = vexp_reduced(held, &n);
    vec_t s = vwhere(mask_greater(held, vset(EXP_FLUSH)), VEC_FROM_BITS(n << EXP_BITS));
    return p * s + s;
}

/* (1 + p) 2^n, n + bias in the low bits of `exponent`, denormal results included: 2^(n + EXP_RAISE) by the exponent
 * bits, then a multiplication by 2^-EXP_RAISE that rounds once. x, which n comes from, tells where: exactly 0 below
 * EXP_ZERO. */
static inline vec_t vscale_gradual(vec_t x, vec_t p, veci_t exponent) {
    mask_t normal = mask_greater(x, vset(EXP_GRADUAL));
    vec_t raised = VEC_FROM_BITS((exponent + EXP_RAISE) << EXP_BITS);
    vec_t s = vselect(normal, VEC_FROM_BITS(exponent << EXP_BITS), vwhere(mask_greater(x, vset(EXP_ZERO)), raised));
    return (p * s + s) * vselect(normal, vset(1), vset(EXP_LOWER));
}

/* exp(x - m) for x <= m as if x - m were exact: its rounding makes exp wrong by up to 512 ulp. Both are reduced by
 * multiples of ln 2,
 *
 *     r = (x - (n + n_m) ln 2) - (m - n_m ln 2) = (x - m) - n ln 2,  n = round((x - m) / ln 2)
 *
 * where nothing rounds but the last difference, for |m| <= TOP_FAR: two-sum would take 4 additions more. Above that
 * x - m itself is exact where exp is not 0, and stands in for x.
 *
 * With AVX-512 n is a multiple of 1/16, |r| <= ln(2) / 32, and 2^(n mod 1) comes from a table in registers: exp(r)
 * takes degree 6 instead of 12 (float: 3 instead of 6). The result is within 1.05 ulp, as the polynomial's 1.04; where
 * `close` (a literal) is set the power's own rounding, relative to it, is added to r: within 0.55 ulp, in 1.1 times the
 * time.
 *
 * Where the result may be denormal or 0, or m is far, a branch goes another way for these lanes alone. */
#ifdef CSOFTMAX_SINGLE
#  define TOP_FAR 212  /* twice -EXP_ZERO at least */
#else
#  define TOP_FAR 1500
#endif
typedef struct {
    vec_t m;
    vec_t n, r;  /* n ln 2 + r is m to the precision of LN2_UPPER, or both are 0 where m is far */
    vec_t near;  /* below it x goes the other way; so does every x if m is far */
    vec_t away;  /* m where it is far, else 0 */
} top_t;

#if defined(__AVX512F__)
/* 2^(i / 16), i taken off the exponent and the upper digits as shifted << TABLE_BITS will add it; and what it lacks */
#  ifdef CSOFTMAX_SINGLE
#    define TABLE_ROUND 0x1.8p19f  /* leaves sixteenths in the low bits */
#    define TABLE_BITS 19
static const bits_t EXP2_TABLE[16] = {
    0x3f800000, 0x3f7daac3, 0x3f7b95c2, 0x3f79c3d3, 0x3f7837f0, 0x3f76f532, 0x3f75fed7, 0x3f75583f, 0x3f7504f3,
    0x3f7508a4, 0x3f75672a, 0x3f76248c, 0x3f7744fd, 0x3f78ccdf, 0x3f7ac0c7, 0x3f7d257d};
static const number_t EXP2_LACK[16] = {
    0x0.0p+0f, 0x1.8d96d2p-25f, -0x1.9c0c22p-27f, 0x1.964902p-25f, 0x1.125002p-25f, 0x1.370be4p-25f, -0x1.0a3552p-25f,
    -0x1.00d8acp-27f, 0x1.26055cp-26f, -0x1.05cb44p-25f, 0x1.67a1cap-28f, 0x1.a3b5e4p-28f, -0x1.f9c306p-27f,
    -0x1.6961b4p-28f, -0x1.a5217cp-28f, 0x1.61428ep-28f};
static inline vec_t vlook_up(const void *table, vec_t index) {
    return _mm512_permutexvar_ps(_mm512_castps_si512(index), vload(table));
}
#  else
#    define TABLE_ROUND 0x1.8p48
#    define TABLE_BITS 48
static const bits_t EXP2_TABLE[16] = {
    UINT64_C(0x3ff0000000000000), UINT64_C(0x3fefb5586cf9890f), UINT64_C(0x3fef72b83c7d517b),
    UINT64_C(0x3fef387a6e756238), UINT64_C(0x3fef06fe0a31b715), UINT64_C(0x3feedea64c123422),
    UINT64_C(0x3feebfdad5362a27), UINT64_C(0x3feeab07dd485429), UINT64_C(0x3feea09e667f3bcd),
    UINT64_C(0x3feea11473eb0187), UINT64_C(0x3feeace5422aa0db), UINT64_C(0x3feec49182a3f090),
    UINT64_C(0x3feee89f995ad3ad), UINT64_C(0x3fef199bdd85529c), UINT64_C(0x3fef5818dcfba487),
    UINT64_C(0x3fefa4afa2a490da)};
static const number_t EXP2_LACK[16] = {
    0x0.0p+0, 0x1.79aa65d837b6cp-54, -0x1.01b15eaa59348p-55, 0x1.68efde3a8a893p-54, 0x1.34d754db0abb6p-55,
    0x1.59f48a72a4c6cp-55, 0x1.690cebb7aafb0p-56, 0x1.063e1e21c5409p-54, -0x1.3b3efbf5e2229p-54,
    -0x1.b32dcb94da51dp-56, 0x1.db72fc1f0eab4p-55, 0x1.1affc2b91ce27p-56, 0x1.c1a7792cb3386p-55,
    0x1.36eae30af0cb3p-56, 0x1.4a385a63d07a7p-56, -0x1.ff7128fd391f1p-55};
static inline vec_t vlook_up(const void *table, vec_t index) {
    const number_t *numbers = table;
    return _mm512_permutex2var_pd(vload(numbers), _mm512_castpd_si512(index), vload(numbers + VEC_LANES));
}
#  endif
#else
#  define TABLE_ROUND EXP_ROUND
#endif

static inline top_t vtop(vec_t m) {
    top_t t;
    mask_t far = mask_greater(vmax(m, -m), vset(TOP_FAR));
    t.m = m;
    t.away = vwhere(far, m);
    t.n = ((m - t.away) * LOG2_E + TABLE_ROUND) - TABLE_ROUND;
    t.r = vless_product(m - t.away, t.n, vset(LN2_UPPER));
    t.near = vselect(far, vset((number_t)INFINITY), m + (number_t)EXP_GRADUAL);
    return t;
}

#if defined(__AVX512F__)
/* the table's part of exp(r) 2^n as it stands there, and *p, exp(r) - 1 */
static inline vec_t vpower_parts(vec_t r, vec_t shifted, vec_t *p, int close) {
    vec_t r2 = r * r, more = close ? r + vlook_up(EXP2_LACK, shifted) : r;
#  ifdef CSOFTMAX_SINGLE
    *p = (r * 0x1.555736p-3f + 0x1.00022p-1f) * r2 + more;
#  else
    *p = (((r * 0x1.11123b48aab17p-7 + 0x1.555555545db2ap-5) + r2 * 0x1.6c185ebd0454cp-10) * r2
          + (r * 0x1.555555548ebb3p-3 + 0x1.0000000000005p-1)) * r2 + more;
#  endif
    return vlook_up(EXP2_TABLE, shifted);
}
#endif

/* exp(x - m) as 2^n, or 2^n times what the table has, and *low, that times exp(r) - 1, which lacks *lost */
static inline vec_t vexp_parts_below(vec_t x, const top_t *t, vec_t *low, vec_t *lost, int close) {
    vec_t shifted = (x - t->m) * LOG2_E + TABLE_ROUND;
    vec_t n = shifted - TABLE_ROUND;
    vec_t r = (vless_product(x, n + t->n, vset(LN2_UPPER)) - t->r) - n * LN2_LOWER;
#if defined(__AVX512F__)
    vec_t p, power = vpower_parts(r, shifted, &p, close);
    power = VEC_FROM_BITS(VEC_BITS(power) + (VEC_BITS(shifted) << TABLE_BITS));
    *lost = vset(0);  /* below 2^-59 of exp(r) */
#else
    vec_t p = vexpm1_parts(r, lost), power = VEC_FROM_BITS(VEC_BITS(shifted) << EXP_BITS);
    *lost *= power;
    (void)close;
#endif
    *low = power * p;
    return power;
}

/* The other way: the same, to the bit where the result is normal, of x - away and m - away, and scaled by 2^n at last.
 * x is held above where exp is 0, and its upper end is no concern. */
static inline vec_t vexp_far_below(vec_t x, const top_t *t, int close) {
    vec_t m = t->m - t->away, y = vmax(m + (number_t)(EXP_ZERO - 1), x - t->away), d = y - m;
    vec_t shifted = d * LOG2_E + TABLE_ROUND;
    vec_t n = shifted - TABLE_ROUND;
    vec_t r = (vless_product(y, n + t->n, vset(LN2_UPPER)) - t->r) - n * LN2_LOWER;
#if defined(__AVX512F__)
    vec_t p, power = vpower_parts(r, shifted, &p, close);
    power = VEC_FROM_BITS(VEC_BITS(power) + ((VEC_BITS(shifted) & 15) << TABLE_BITS));
    return VEC_OP(scalef)(power * p + power, n);  /* by 2 to floor(n) */
#else
    (void)close;
    return vscale_gradual(d, vexpm1_reduced(r), VEC_BITS(shifted));
#endif
}

static inline vec_t vexp_below(vec_t x, const top_t *t) {
    vec_t low, lost, power = vexp_parts_below(x, t, &low, &lost, 0), e = power + low;
    mask_t far = mask_greater(t->near, x);
    if (UNLIKELY(vany(far))) e = vselect(far, vexp_far_below(x, t, 0), e);
    return e;
}

/* The closer exp, and *low, what the rounding of its last additions loses where the result is normal (0 where x is m):
 * that rounding alone leaves logsumexp up to 2.6 ulp, where m and the logarithm nearly cancel or many terms are
 * equal. */
static inline vec_t vexp_below_in_parts(vec_t x, const top_t *t, vec_t *low) {
    vec_t lost, power = vexp_parts_below(x, t, low, &lost, 1), e = power + *low;
    mask_t far = mask_greater(t->near, x);
    *low -= e - power;
#if !defined(__AVX512F__)
    *low += lost;  /* with the table it is too small to matter, and 0 here */
#endif
    if (UNLIKELY(vany(far))) {
        e = vselect(far, vexp_far_below(x, t, 1), e);
        *low = vwhere((mask_t)~far, *low);
    }
    return e;
}

/* log(1 + x + x_low) for finite x >= 0, as the number nearest and what remains of it. With u = 1 + x = 2^k (1 + f),
 * sqrt(1/2) <= 1 + f < sqrt(2), s = f / (2 + f), z = s^2:
 *
 *     log(1 + f) = f - (f^2/2 - s (f^2/2 + z P(z)))       P of degree 6, error 4.6e-18 relative (float: 2, 8e-10)
 *     log1p(x)   = k ln 2 + log(1 + f) + (x - (u - 1) + x_low) / u
 *
 * the last term being what the rounding of 1 + x lost; `reciprocal` is 1 / u, which callers have. k ln 2 + f is exact
 * in two parts, so that the error of both parts together is that of the small terms: 2^-55 (float: 2^-26). */
static inline vec_t vlog1p_parts(vec_t x, vec_t x_low, vec_t reciprocal, vec_t *low) {
    vec_t u = x + (number_t)1;
    vec_t lost = ((x - (u - (number_t)1)) + x_low) * reciprocal;
    /* bits of sqrt(1/2): what is above counts as the next power of two */
#ifdef CSOFTMAX_SINGLE
    veci_t n = (VEC_BITS(u) - 0x3f3504f3u) >> 23;
    vec_t f = VEC_FROM_BITS(VEC_BITS(u) - (n << 23)) - 1.0f;
    vec_t k = VEC_FROM_BITS(n + 0x4b400000u) - 12582912.0f;
    vec_t s = f / (f + 2.0f);
    vec_t z = s * s;
    vec_t p = z * 0x1.31e46ep-2f + 0x1.995eb0p-2f;
    p = p * z + 0x1.55557ap-1f;
    vec_t half = 0.5f * f * f;
    vec_t tail = s * (half + p * z) + (k * 0x1.7f7d1cp-20f + lost);
    vec_t power = k * 0x1.62e4p-1f;
#else
    veci_t n = (VEC_BITS(u) - UINT64_C(0x3fe6a09e667f3bcd)) >> 52;
    vec_t f = VEC_FROM_BITS(VEC_BITS(u) - (n << 52)) - 1.0;
    vec_t k = VEC_FROM_BITS(n + UINT64_C(0x4338000000000000)) - 6755399441055744.0;
    vec_t s = f / (f + 2.0);
    vec_t z = s * s;
    vec_t p = z * 0x1.2b5f68a50d903p-3 + 0x1.39fdcceb4bb45p-3;
    p = p * z + 0x1.7462b91b8df65p-3;
    p = p * z + 0x1.c71c62d5e53e0p-3;
    p = p * z + 0x1.2492492dfd86cp-2;
    p = p * z + 0x1.9999999995273p-2;
    p = p * z + 0x1.5555555555558p-1;
    vec_t half = 0.5 * f * f;
    vec_t tail = s * (half + p * z) + (k * 0x1.a39ef35793c76p-33 + lost);
    vec_t power = k * 0x1.62e42fee00000p-1;
#endif
    vec_t large = power + f;
    vec_t small = (f - (large - power)) - (half - tail);
    vec_t sum = large + small;
    *low = small - (sum - large);
    return sum;
}
static inline vec_t vlog1p(vec_t x, vec_t reciprocal) {
    vec_t low;
    return vlog1p_parts(x, vset(0), reciprocal, &low);
}

/* VEC_LOW_s(a, b), VEC_HIGH_s(a, b): the lanes i of a and then of b whose bit s is 0, or 1, in blocks of s lanes. */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#  define VEC_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#  define VEC_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (veci_t){__VA_ARGS__})
#endif
#if VEC_LANES == 16
#  define VEC_LOW_1(a, b) VEC_SHUFFLE(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#  define VEC_HIGH_1(a, b) VEC_SHUFFLE(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)
#  define VEC_LOW_2(a, b) VEC_SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#  define VEC_HIGH_2(a, b) VEC_SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#  define VEC_LOW_4(a, b) VEC_SHUFFLE(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#  define VEC_HIGH_4(a, b) VEC_SHUFFLE(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
#elif VEC_LANES == 8
#  define VEC_LOW_1(a, b) VEC_SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14)
#  define VEC_HIGH_1(a, b) VEC_SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15)
#  define VEC_LOW_2(a, b) VEC_SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#  define VEC_HIGH_2(a, b) VEC_SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#  define VEC_LOW_4(a, b) VEC_SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#  define VEC_HIGH_4(a, b) VEC_SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#elif VEC_LANES == 4
#  define VEC_LOW_1(a, b) VEC_SHUFFLE(a, b, 0, 4, 2, 6)
#  define VEC_HIGH_1(a, b) VEC_SHUFFLE(a, b, 1, 5, 3, 7)
#  define VEC_LOW_2(a, b) VEC_SHUFFLE(a, b, 0, 1, 4, 5)
#  define VEC_HIGH_2(a, b) VEC_SHUFFLE(a, b, 2, 3, 6, 7)
#elif VEC_LANES == 2
#  define VEC_LOW_1(a, b) VEC_SHUFFLE(a, b, 0, 2)
#  define VEC_HIGH_1(a, b) VEC_SHUFFLE(a, b, 1, 3)
#endif
/* the lower or upper half; asked for where a tile has half as many rows as lanes */
#if defined(CSOFTMAX_SINGLE) && VEC_LANES == 16
#  define VEC_HALF(a, upper) ((half_t)_mm512_extractf64x4_pd((__m512d)(a), upper))
static inline vec_t vload_halves(const number_t *lower, const number_t *upper) {
    __m512d v = _mm512_castpd256_pd512(_mm256_loadu_pd((const double *)lower));
    return (vec_t)_mm512_insertf64x4(v, _mm256_loadu_pd((const double *)upper), 1);
}
#elif defined(CSOFTMAX_SINGLE) && VEC_LANES == 8
#  define VEC_HALF(a, upper) ((half_t)_mm256_extractf128_ps(a, upper))
#elif VEC_LANES == 8
#  define VEC_HALF(a, upper) ((half_t)_mm512_extractf64x4_pd(a, upper))
#elif VEC_LANES == 4 && VEC_BYTES == 32
#  define VEC_HALF(a, upper) ((half_t)_mm256_extractf128_pd(a, upper))
#endif
#if !defined(CSOFTMAX_SINGLE) || VEC_LANES < 16  /* never reached */
static inline vec_t vload_halves(const number_t *lower, const number_t *upper) { return (void)upper, vload(lower); }
#endif
/* never reached: their stage is wider than a vector */
#ifndef VEC_LOW_1
#  define VEC_LOW_1(a, b) (a)
#  define VEC_HIGH_1(a, b) (b)
#endif
#ifndef VEC_LOW_2
#  define VEC_LOW_2(a, b) (a)
#  define VEC_HIGH_2(a, b) (b)
#endif
#ifndef VEC_LOW_4
#  define VEC_LOW_4(a, b) (a)
#  define VEC_HIGH_4(a, b) (b)
#endif

/* n vectors (1, 2, 4 or 8, at most VEC_LANES; a literal) as the rows of a matrix. vtranspose: row j becomes the columns
 * j, j + n, j + 2n ..., n lanes each. vstore_columns does that and stores column c at out + c * stride. */
static inline void vtranspose(vec_t *a, int n) {
    vec_t low, high;
#define VEC_STAGE(s)                                                                      \
    if (n > s)                                                                            \
        for (int i = 0; i < n; i++)                                                       \
            if (!(i & s)) {                                                               \
                low = VEC_LOW_##s(a[i], a[i + s]), high = VEC_HIGH_##s(a[i], a[i + s]);   \
                a[i] = low, a[i + s] = high;                                              \
            }
    VEC_STAGE(1) VEC_STAGE(2) VEC_STAGE(4)
#undef VEC_STAGE
}
static inline void vstore_columns(number_t *out, ptrdiff_t stride, vec_t *a, int n) {
    vtranspose(a, n);
    for (int j = 0; j < n; j++) {
        if (n == VEC_LANES) vstore(out + j * stride, a[j]);
#ifdef VEC_HALF
        else {  /* n == VEC_LANES / 2 */
            half_t low = VEC_HALF(a[j], 0), high = VEC_HALF(a[j], 1);
            memcpy(out + j * stride, &low, sizeof low);
            memcpy(out + (j + n) * stride, &high, sizeof high);
        }
#endif
    }
}

/* C vectors, 2 to 4 (a literal), of rows of C entries end to end: vfrom_rows makes them a vector an entry, vto_rows
 * undoes that. What stands at q = j C + c of the rows is lane j of entry c. */
#if VEC_LANES == 16
#  define VEC_EACH(F, C, k) F(0, C, k), F(1, C, k), F(2, C, k), F(3, C, k), F(4, C, k), F(5, C, k), F(6, C, k), \
    F(7, C, k), F(8, C, k), F(9, C, k), F(10, C, k), F(11, C, k), F(12, C, k), F(13, C, k), F(14, C, k), F(15, C, k)
#elif VEC_LANES == 8
#  define VEC_EACH(F, C, k) F(0, C, k), F(1, C, k), F(2, C, k), F(3, C, k), F(4, C, k), F(5, C, k), F(6, C, k), \
    F(7, C, k)
#elif VEC_LANES == 4
#  define VEC_EACH(F, C, k) F(0, C, k), F(1, C, k), F(2, C, k), F(3, C, k)
#else
#  define VEC_EACH(F, C, k) F(0, C, k), F(1, C, k)
#endif
#if VEC_LANES == 1
static inline void vfrom_rows(vec_t *a, int C) { (void)a, (void)C; }
static inline void vto_rows(vec_t *a, int C) { (void)a, (void)C; }
#else
#  define ROWS_LOWER(j, C, c) ((C) * (j) + (c) < 2 * VEC_LANES ? (C) * (j) + (c) : 0)                /* of a[0], a[1] */
#  define ROWS_UPPER(j, C, c) ((C) * (j) + (c) >= 2 * VEC_LANES ? (C) * (j) + (c) - 2 * VEC_LANES : 0)  /* a[2], a[3] */
#  define ROWS_THIRD(j, C, c) ((C) * (j) + (c) < 2 * VEC_LANES ? (j) : (C) * (j) + (c) - VEC_LANES)  /* lower, a[2] */
#  define ROWS_BOTH(j, C, c) ((C) * (j) + (c) < 2 * VEC_LANES ? (j) : VEC_LANES + (j))               /* lower, upper */
#  define ROWS_AT(i, p) ((i) * VEC_LANES + (p))  /* q of lane p of vector i */
#  define ENTRY_LOWER(p, C, i) (ROWS_AT(i, p) % (C) < 2 ? ROWS_AT(i, p) % (C) * VEC_LANES + ROWS_AT(i, p) / (C) : 0)
#  define ENTRY_UPPER(p, C, i) \
    (ROWS_AT(i, p) % (C) < 2 ? 0 : (ROWS_AT(i, p) % (C) - 2) * VEC_LANES + ROWS_AT(i, p) / (C))
#  define ENTRY_THIRD(p, C, i) (ROWS_AT(i, p) % (C) < 2 ? (p) : VEC_LANES + ROWS_AT(i, p) / (C))
#  define ENTRY_BOTH(p, C, i) (ROWS_AT(i, p) % (C) < 2 ? (p) : VEC_LANES + (p))
#  define SHUFFLE_2(F, k) VEC_SHUFFLE(b[0], b[1], VEC_EACH(F##_LOWER, 2, k))
#  define SHUFFLE_3(F, k) VEC_SHUFFLE(VEC_SHUFFLE(b[0], b[1], VEC_EACH(F##_LOWER, 3, k)), b[2], \
                                      VEC_EACH(F##_THIRD, 3, k))
#  define SHUFFLE_4(F, k) VEC_SHUFFLE(VEC_SHUFFLE(b[0], b[1], VEC_EACH(F##_LOWER, 4, k)), \
                                      VEC_SHUFFLE(b[2], b[3], VEC_EACH(F##_UPPER, 4, k)), VEC_EACH(F##_BOTH, 4, k))
#  define SHUFFLE_ROWS(F)                                                                              \
    vec_t b[4] = {a[0], a[1], C > 2 ? a[2] : a[0], C > 3 ? a[3] : a[0]};                               \
    if (C == 2) a[0] = SHUFFLE_2(F, 0), a[1] = SHUFFLE_2(F, 1);                                        \
    if (C == 3) a[0] = SHUFFLE_3(F, 0), a[1] = SHUFFLE_3(F, 1), a[2] = SHUFFLE_3(F, 2);                \
    if (C == 4) a[0] = SHUFFLE_4(F, 0), a[1] = SHUFFLE_4(F, 1), a[2] = SHUFFLE_4(F, 2), a[3] = SHUFFLE_4(F, 3);
static inline void vfrom_rows(vec_t *a, int C) { SHUFFLE_ROWS(ROWS) }
static inline void vto_rows(vec_t *a, int C) { SHUFFLE_ROWS(ENTRY) }
#endif

/* out[i] += the sum of row i's lanes: n - 1 additions and 2 n - 2 shuffles, and a fold where n is half the lanes */
static inline void vadd_sums(number_t *out, vec_t *a, int n) {
    if (n > 1) for (int i = 0; i < n / 2; i++)
        a[i] = VEC_LOW_1(a[2 * i], a[2 * i + 1]) + VEC_HIGH_1(a[2 * i], a[2 * i + 1]);
    if (n > 2) for (int i = 0; i < n / 4; i++)
        a[i] = VEC_LOW_2(a[2 * i], a[2 * i + 1]) + VEC_HIGH_2(a[2 * i], a[2 * i + 1]);
    if (n > 4) a[0] = VEC_LOW_4(a[0], a[1]) + VEC_HIGH_4(a[0], a[1]);
    if (n == VEC_LANES) vstore(out, vload(out) + a[0]);
#ifdef VEC_HALF
    else {  /* n == VEC_LANES / 2 */
        half_t sum;
        memcpy(&sum, out, sizeof sum);
        sum += VEC_HALF(a[0], 0) + VEC_HALF(a[0], 1);
        memcpy(out, &sum, sizeof sum);
    }
#endif
}

#endif

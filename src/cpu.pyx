"""The x86-64 level of this processor and operating system.

`csoftmax._dispatch` stands on it. It stands on the compiler's own CPU query alone, and is compiled for the
baseline: it runs before any kernel is loaded, for a module's initialisation is compiled with its flags too.
"""

cdef extern from *:
    """
    #if defined(__GNUC__) && defined(__x86_64__) && defined(__linux__)
    static int csoftmax_cpu_level(void) {
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            return 4;
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
            __builtin_cpu_supports("bmi2"))
            return 3;
        return 2;
    }
    #else
    static int csoftmax_cpu_level(void) { return 0; }
    #endif
    """
    int csoftmax_cpu_level() nogil


def level():
    """Return 4, 3 or 2 for the x86-64 level that may be run here, 0 where setup.py makes one build."""
    return csoftmax_cpu_level()

"""Numbers that threads wait for without the interpreter's lock, for as long as waking a thread takes.

`csoftmax._threads` stands on it. It stands on the compiler's atomic operations alone.
A thread asleep on a lock wakes after 20 to 50 us on a virtual machine, and wants the interpreter's lock then: that is a
tenth of a pass of 1 ms on two threads. One that looks at a number again and again sees it after 0.1 us.
"""

cdef extern from *:
    """
    #include <time.h>
    #if defined(_MSC_VER) && !defined(__clang__)
    #include <intrin.h>
    #define csoftmax_load(p) (*(volatile long long *) (p))
    #define csoftmax_add(p) _InterlockedIncrement64(p)
    #else
    #define csoftmax_load(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
    #define csoftmax_add(p) __atomic_add_fetch(p, 1, __ATOMIC_ACQ_REL)
    #endif
    #if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    #define csoftmax_pause() __builtin_ia32_pause()
    #else
    #define csoftmax_pause() ((void) 0)
    #endif
    static double csoftmax_seconds(void) {
        struct timespec t;
        timespec_get(&t, TIME_UTC);
        return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
    }
    """
    long long csoftmax_load(long long *p) nogil
    long long csoftmax_add(long long *p) nogil
    void csoftmax_pause() nogil
    double csoftmax_seconds() nogil


cdef class Counter:
    """A whole number from 0 up.

    Attributes
    ----------
    value : int
    """

    cdef long long n

    @property
    def value(self):
        return csoftmax_load(&self.n)

    def add(self):
        """Add 1."""
        csoftmax_add(&self.n)

    def wait(self, long long least, double seconds):
        """Wait until the number is `least` or more, at most so many seconds; the processor is kept busy."""
        with nogil:
            spin(&self.n, least, seconds)

    def add_then_wait(self, Counter other, long long least, double seconds):
        """Add 1 with the interpreter's lock already given up, so that who sees it finds the lock free; then wait."""
        with nogil:
            csoftmax_add(&self.n)
            spin(&other.n, least, seconds)


cdef void spin(long long *n, long long least, double seconds) noexcept nogil:
    cdef double now = csoftmax_seconds(), start = now
    cdef int _look
    # a clock that is set back ends it too
    while now >= start and now - start < seconds:
        for _look in range(32):
            if csoftmax_load(n) >= least:
                return
            csoftmax_pause()
        now = csoftmax_seconds()

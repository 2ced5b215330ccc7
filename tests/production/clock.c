/* Sets the clock that a process sees, for all of its libraries; loaded before the C library.

   clock_by(seconds): from now on the time of day is so much later, or earlier. Clocks that only measure are as they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

static atomic_long offset;

void clock_by(long seconds) { offset = seconds; }

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = REAL(clock_gettime)(id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += offset;
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = REAL(gettimeofday)(now, zone);
    if (!failed) now->tv_sec += offset;
    return failed;
}
time_t time(time_t *at) {
    time_t now = REAL(time)(0) + offset;
    if (at) *at = now;
    return now;
}

/* Lets system calls that change files below a folder fail, from a chosen one on; loaded before the C library.

   faults_at(n, error, forever): the n-th call from now fails with `error`; with `forever` all later ones do too, so that
   the disk is left as it would be if the process had been killed before the n-th; error = -1 kills it. n = 0 lets every
   call through.
   faults_seen(): calls since then. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int seen, at, failure, forever;

void faults_at(int n, int error, int all) { seen = 0; at = n; failure = error; forever = all; }
int faults_seen(void) { return seen; }

static int below(const char *path) {
    const char *folder = getenv("FAULTS_BELOW");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}
static int fd_below(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path);
}
static int fails(int ours) {
    if (!ours) return 0;
    int number = ++seen;
    if (at && number == at && failure == -1) kill(getpid(), SIGKILL);
    if (at && (number == at || (forever && number > at))) { errno = failure; return 1; }
    return 0;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))
#define WRITES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if (fails(WRITES(flags) && below(path))) return -1; \
        return REAL(name)(path, flags, mode); }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if (fails(WRITES(flags) && (below(path) || (path[0] != '/' && fd_below(folder))))) return -1; \
        return REAL(name)(folder, path, flags, mode); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

int mkdir(const char *p, mode_t m) { return fails(below(p)) ? -1 : REAL(mkdir)(p, m); }
int rmdir(const char *p) { return fails(below(p)) ? -1 : REAL(rmdir)(p); }
int unlink(const char *p) { return fails(below(p)) ? -1 : REAL(unlink)(p); }
int unlinkat(int d, const char *p, int f) { return fails(below(p) || (p[0] != '/' && fd_below(d))) ? -1 : REAL(unlinkat)(d, p, f); }
int rename(const char *a, const char *b) { return fails(below(b)) ? -1 : REAL(rename)(a, b); }
int renameat(int c, const char *a, int d, const char *b) { return fails(below(b)) ? -1 : REAL(renameat)(c, a, d, b); }
int link(const char *a, const char *b) { return fails(below(b)) ? -1 : REAL(link)(a, b); }
int linkat(int c, const char *a, int d, const char *b, int f) { return fails(below(b)) ? -1 : REAL(linkat)(c, a, d, b, f); }
ssize_t write(int fd, const void *b, size_t n) { return fails(fd_below(fd)) ? -1 : REAL(write)(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { return fails(fd_below(fd)) ? -1 : REAL(pwrite)(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { return fails(fd_below(fd)) ? -1 : REAL(pwrite64)(fd, b, n, o); }
int fsync(int fd) { return fails(fd_below(fd)) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails(fd_below(fd)) ? -1 : REAL(fdatasync)(fd); }
int ftruncate(int fd, off_t n) { return fails(fd_below(fd)) ? -1 : REAL(ftruncate)(fd, n); }
int ftruncate64(int fd, off64_t n) { return fails(fd_below(fd)) ? -1 : REAL(ftruncate64)(fd, n); }

// Virtual calls, templates, lambdas and std::function; the main thread blocks
// inside a catch block, a second one in a destructor run while an exception
// is still propagating, a third in a std::thread lambda.
#include "lab.h"
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>
#ifndef NS
#define NS lab
#endif
#ifndef WL
#define WL "cxx"
#endif
#define HERE(name) lab_push(name, 0, __builtin_extract_return_addr(__builtin_return_address(0)))
#define S_(x) #x
#define S(x) S_(x)

namespace NS
{
namespace detail
{
struct Shape {
	virtual ~Shape() = default;
	virtual long area(int depth, const std::string &tag) = 0;
};

template <typename T>
struct Box final : Shape {
	T v;
	std::unique_ptr<Shape> inner;

	Box(T x, std::unique_ptr<Shape> i) : v(x), inner(std::move(i))
	{
	}

	NI long area(int depth, const std::string &tag) override
	{
		HERE(S(NS) "::detail::Box<T>::area");
		std::string t2 = tag + ":" + std::to_string(depth) + std::string(20, 'x');
		long r = inner ? inner->area(depth + 1, t2) : 0;
		lab_sink += (unsigned long)r;
		return r + (long)v + (long)t2.size();
	}
};

struct Blocker final : Shape {
	const char *label;

	explicit Blocker(const char *l) : label(l)
	{
	}

	NI long area(int depth, const std::string &tag) override
	{
		HERE(S(NS) "::detail::Blocker::area");
		try {
			NI_throw(depth, tag);
		} catch (const std::runtime_error &e) {
			lab_sink += strlen(e.what());
			lab_report(WL, label, "nanosleep", "inside a catch block");
			NAP_FOREVER();
		}
		return depth;
	}

	NI void NI_throw(int d, const std::string &tag)
	{
		if (d > 0)
			throw std::runtime_error("deep " + tag);
		lab_sink++;
	}
};

struct Guard {
	const char *label;

	NI ~Guard()
	{
		HERE(S(NS) "::detail::Guard::~Guard");
		lab_report(WL, label, "nanosleep", "in a destructor, exception in flight");
		NAP_FOREVER();
	}
};

NI void thrower(int n)
{
	if (n > 0)
		throw std::out_of_range("out" + std::to_string(n));
	lab_sink++;
}

NI long unwinding(int n)
{
	HERE(S(NS) "::detail::unwinding");
	Guard g{"dtor"};
	thrower(n);
	return (long)lab_sink;
}
} // namespace detail

NI long catcher(int n)
{
	HERE(S(NS) "::catcher");
	try {
		return detail::unwinding(n);
	} catch (const std::exception &) {
		lab_sink++;
	}
	return 0;
}

template <typename F>
NI long apply(F &&f, int n)
{
	HERE(S(NS) "::apply");
	long r = f(n);
	lab_sink += (unsigned long)r;
	return r;
}

NI long cond_wait(std::function<bool()> pred)
{
	HERE(S(NS) "::cond_wait");
	std::mutex m;
	std::condition_variable cv;
	std::unique_lock<std::mutex> l(m);
	lab_report(WL, "condvar", "futex:condition_variable::wait", "std::function predicate");
	cv.wait(l, pred);
	return (long)lab_sink;
}
} // namespace NS

int main(int argc, char **)
{
	HERE("main");
	using namespace NS;
	std::thread a([argc] {
		HERE("lambda");
		lab_sink += (unsigned long)catcher(argc);
	});
	std::thread b([argc] {
		HERE("lambda");
		lab_sink += (unsigned long)apply(
			[](int n) {
				HERE("lambda");
				long r = cond_wait([n] {
					return n < 0;
				});
				lab_sink++;
				return r;
			},
			argc);
	});
	pthread_setname_np(a.native_handle(), "cxx-dtor");
	pthread_setname_np(b.native_handle(), "cxx-condvar");
	std::unique_ptr<detail::Shape> s = std::make_unique<detail::Blocker>("main");
	s = std::make_unique<detail::Box<int>>(1, std::move(s));
	s = std::make_unique<detail::Box<double>>(2.0, std::move(s));
	s = std::make_unique<detail::Box<long long>>(3, std::move(s));
	long r = s->area(argc, "root");
	a.join();
	b.join();
	return (int)r;
}

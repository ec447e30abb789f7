// The programs that `doctor` tries in a child: each makes one request and prints the status that it got.

export interface Runtime {
  readonly name: string;
  readonly program: string;
  /** The command that asks for `url`; it prints `status NNN` when an HTTP response came, whatever it says. */
  command(url: string, source: string): string[];
  /** A source file that it needs, whose path is given to `command`. */
  readonly source?: { readonly file: string; readonly text: string };
  /** How this program prints the status; by default `status NNN`. */
  readonly status?: RegExp;
}

const PYTHON = `import sys,urllib.request,urllib.error
try: print('status', urllib.request.urlopen(sys.argv[1], timeout=20).status)
except urllib.error.HTTPError as e: print('status', e.code)
except urllib.error.URLError as e: sys.exit(str(e.reason))`;
const NODE_FETCH =
  "fetch(process.argv[1]).then(r=>console.log('status',r.status),e=>{console.error(e.cause?.message??e.message);process.exit(1)})";
const NODE_GET =
  "require(process.argv[1].split(':')[0]).get(process.argv[1],r=>{console.log('status',r.statusCode);r.destroy()}).on('error',e=>{console.error(e.message);process.exit(1)})";
const DENO = "const r = await fetch(Deno.args[0]); console.log('status', r.status)";
const RUBY = "require 'net/http'; puts \"status #{Net::HTTP.get_response(URI(ARGV[0])).code}\"";

const GO = `package main
import ("fmt"; "net/http"; "os")
func main() {
	r, err := http.Get(os.Args[1])
	if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	fmt.Println("status", r.StatusCode)
}
`;
const JAVA = `import java.net.HttpURLConnection;
import java.net.URL;
public class Ask {
  public static void main(String[] args) throws Exception {
    System.out.println("status " + ((HttpURLConnection) new URL(args[0]).openConnection()).getResponseCode());
  }
}
`;

export const RUNTIMES: readonly Runtime[] = [
  {
    name: "curl",
    program: "curl",
    command: (url) => ["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "status %{http_code}", url],
  },
  {
    name: "git",
    program: "git",
    command: (url) => ["git", "-c", "http.lowSpeedTime=20", "ls-remote", url],
    // A site that is no repository answers all the same.
    status: /(?:returned error: (\d{3})|repository '.*' not found|not valid: is this a git repository|\tHEAD)/,
  },
  {
    name: "wget",
    program: "wget",
    command: (url) => ["wget", "-S", "-T", "20", "-t", "1", "-O", "/dev/null", url],
    status: /HTTP\/\d(?:\.\d)? (\d{3})/g,
  },
  { name: "python3", program: "python3", command: (url) => ["python3", "-c", PYTHON, url] },
  { name: "node fetch", program: "node", command: (url) => ["node", "-e", NODE_FETCH, url] },
  { name: "node https", program: "node", command: (url) => ["node", "-e", NODE_GET, url] },
  { name: "deno", program: "deno", command: (url) => ["deno", "eval", DENO, url] },
  {
    name: "go",
    program: "go",
    command: (url, source) => ["go", "run", source, url],
    source: { file: "ask.go", text: GO },
  },
  {
    name: "java",
    // With the compiler alone a source file can be run; a runtime without one is passed over.
    program: "javac",
    command: (url, source) => ["java", source, url],
    source: { file: "Ask.java", text: JAVA },
  },
  { name: "ruby", program: "ruby", command: (url) => ["ruby", "-e", RUBY, url] },
];

/** What went wrong when no response came, by what the program said. */
export function explainFailure(said: string): { readonly why: string; readonly todo: string } {
  // What the proxy itself said comes first: many programs add a sentence about TLS to it.
  if (/\bHTTP\/1\.1 40[37]\b|\b40[37] (?:Forbidden|Proxy)|: Forbidden|tunneling failed|response 40[37]\b/.test(said)) {
    return { why: "the proxy refused the tunnel", todo: "sallyport audit tail shows the rule and the reason" };
  }
  if (/certificate|CERT_|SSL|PKIX|x509|UnknownIssuer/i.test(said)) {
    return { why: "it does not trust the CA", todo: "does it read another setting than those of `sallyport env`?" };
  }
  if (/tunnel|CONNECT|proxy refused|407|403/i.test(said)) {
    return { why: "the proxy refused the tunnel", todo: "sallyport audit tail shows the rule and the reason" };
  }
  if (/resolve|ENOTFOUND|EAI_AGAIN|getaddrinfo/i.test(said)) {
    return { why: "it looked the name up itself: it does not use the proxy", todo: "set its own proxy option" };
  }
  return { why: "no response", todo: "run it under `sallyport run` by hand to see what it says" };
}

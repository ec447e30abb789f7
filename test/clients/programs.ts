// Programs in other languages, as people write them: nothing in them knows of a proxy.

/** get, post: prints both contents. */
export const GO = `package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func show(response *http.Response, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	fmt.Print(string(content))
}

func main() {
	show(http.Get(os.Args[1]))
	show(http.Post(os.Args[2], "text/plain", strings.NewReader(os.Args[3])))
}
`;

/** get and post with HttpClient, get with HttpURLConnection. */
export const JAVA = `import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Get {
  public static void main(String[] args) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    HttpRequest get = HttpRequest.newBuilder(URI.create(args[0])).build();
    HttpRequest post = HttpRequest.newBuilder(URI.create(args[1])).POST(HttpRequest.BodyPublishers.ofString(args[2])).build();
    System.out.print(client.send(get, HttpResponse.BodyHandlers.ofString()).body());
    System.out.print(client.send(post, HttpResponse.BodyHandlers.ofString()).body());
    System.out.write(new URL(args[0]).openConnection().getInputStream().readAllBytes());
    System.out.flush();
  }
}
`;
